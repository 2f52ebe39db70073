"""The commands that give runs to other tools and people: export, card."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from aldvae.cli.use import UseError
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


def card(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The directory of a finished run.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The folder; without it, RUN/card.")] = None,
    licence: Annotated[str | None, typer.Option(help="The licence of the data, such as 'CC BY 4.0'.")] = None,
) -> None:
    """Write a folder to share: the model, its settings, and a model card with the evidence for its size."""
    from aldvae.data.sources import SOURCES
    from aldvae.reporting.figures.run_overview import draw_overview
    from aldvae.reporting.model_card import Licence, write_card
    from aldvae.runs.results import read_result

    result = read_result(run)
    if result is None:
        raise UseError(f"RUN {run} is not the directory of a run; name one that aldvae adaptive made")
    if result.summary is None:
        raise UseError(f"RUN {run} is not finished; the command that made it resumes it")
    if licence is not None and not licence.strip():
        raise ConfigError("licence", "is empty; name one, or leave it out if you do not know it")
    if not (run / "overview.png").exists():
        draw_overview(run)
    source = None if result.config.data.source else SOURCES.get(result.config.data.dataset)
    folder = output or run / "card"
    write_card(result, folder, Licence(licence), source.credit if source else "")
    if licence is None:
        print("aldvae: the card says that the licence of the data is unknown; --licence tells it", file=sys.stderr)
    print(folder)
