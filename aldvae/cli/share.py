"""The commands that give runs to other tools: export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from aldvae.utils.errors import ConfigError


def export(
    results_dir: Annotated[Path, typer.Argument(metavar="RUNS", help="A directory that holds runs, at any depth.")],
    optuna: Annotated[Path, typer.Option(help="The SQLite file of Optuna, which is made or added to.")],
) -> None:
    """Make each finished run a trial of an Optuna study: its start, rule, beta and seed, and its losses."""
    from aldvae.reporting.optuna_study import export_to_optuna
    from aldvae.runs.results import read_results

    results = read_results(results_dir)
    finished = [result for result in results if result.summary is not None]
    if not finished:
        raise ConfigError("results_dir", f"{results_dir} holds no finished run; aldvae adaptive makes one")
    added, present = export_to_optuna(finished, optuna)
    if present:
        print(f"aldvae: {present} runs were there already", file=sys.stderr)
    if len(finished) < len(results):
        print(f"aldvae: {len(results) - len(finished)} unfinished runs were left out", file=sys.stderr)
    print(f"{added} trials added to {optuna}")
