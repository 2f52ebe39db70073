"""Reading what runs left: run directories as they are found, finished or not."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from aldvae.config.run_config import RunConfig
from aldvae.runs.directory import FAILURE, RunDirectory, number
from aldvae.utils.errors import AldvaeError, ConfigError


@dataclass(frozen=True)
class Result:
    """A run directory that holds `config`; `summary` is None until the run is finished."""

    path: Path
    config: RunConfig
    summary: dict[str, Any] | None

    @cached_property
    def state(self) -> str:
        """``finished``, ``running``, ``failed`` or ``unfinished``."""
        if self.summary is not None:
            return "finished"
        if RunDirectory.found(self.path, self.config).busy:
            return "running"
        return "failed" if (self.path / FAILURE).exists() else "unfinished"

    @cached_property
    def failure(self) -> str:
        """The reason a run failed with, in one line; empty if it did not."""
        if self.state != "failed":
            return ""
        lines = (self.path / FAILURE).read_text().splitlines()
        return lines[0] if lines else "unknown"

    def rows(self, table: str) -> list[dict[str, str]]:
        """Return the whole rows of a table; a torn last line is left out."""
        try:
            text = (self.path / f"{table}.csv").read_text(errors="replace")
        except OSError:
            return []
        return list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])))

    @cached_property
    def last(self) -> dict[str, Any]:
        """The last row of ``metrics.csv``, as numbers where they are; empty before the first epoch."""
        rows = self.rows("metrics")
        return {name: number(cell) for name, cell in rows[-1].items()} if rows else {}

    @property
    def epochs(self) -> int:
        """The epochs that are done."""
        epoch = self.last.get("epoch")
        return epoch if isinstance(epoch, int) else 0

    @cached_property
    def seconds(self) -> float:
        """Seconds of training and metrics so far."""
        return self.seconds_until(math.inf)

    def seconds_until(self, epoch: float) -> float:
        """Return the seconds of training and metrics up to and with `epoch`."""
        rows = [{name: number(cell) for name, cell in row.items()} for row in self.rows("times")]
        counted = [row for row in rows if isinstance(row["epoch"], int) and row["epoch"] <= epoch]
        told = [row[name] for row in counted for name in ("train_seconds", "metrics_seconds")]
        return float(sum(value for value in told if isinstance(value, int | float)))


def read_result(path: Path) -> Result | None:
    """Return what the run directory `path` holds; None if it is none, or holds no settings that can be read."""
    try:
        config = RunConfig.from_json(json.loads((path / "config.json").read_text())["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    directory = RunDirectory.found(path, config)
    try:
        summary = directory.summary() if directory.finished else None
    except AldvaeError:
        summary = None
    return Result(path, config, summary)


def read_results(results_dir: Path) -> list[Result]:
    """Return all runs under `results_dir`, however deep, in the order of their names.

    Raises `ConfigError` where there is no such directory.
    """
    if not results_dir.is_dir():
        raise ConfigError("results_dir", f"{results_dir} is not there; name a directory that holds runs")
    found = (read_result(file.parent) for file in sorted(_config_files(results_dir)))
    return sorted((result for result in found if result is not None), key=_order)


def _config_files(root: Path) -> Iterator[Path]:
    return root.rglob("config.json")


def _order(result: Result) -> tuple[Any, ...]:
    config = result.config
    return (config.dataset, config.kind, config.rule, config.init_dim, config.seed, config.name)
