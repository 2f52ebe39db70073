"""Reading runs back: `Result` is the only reader of a run directory, finished or not."""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from aldvae.config.run_config import RunConfig
from aldvae.config.sample_counts import FEWEST_EPOCHS
from aldvae.runs.directory import FAILURE, RunDirectory
from aldvae.runs.records import COLUMNS, LATENT_SPACE, TEXT_COLUMNS, Cell, Session, Summary, csv_rows, parse_cell
from aldvae.utils.errors import AldvaeError, ConfigError

# Pandas takes half a second to import, and the command line and sweeps do without it.
if TYPE_CHECKING:
    import pandas as pd

# The model of a finished run; `models.serialization` writes and loads it.
MODEL = "model.safetensors"

State = Literal["finished", "running", "failed", "unfinished"]


def describe_answer(summary: Summary) -> str:
    """Return how many dimensions carry information, how sure that is, and what would make it surer; no full stop."""
    n, limits = summary["n_informative"], summary["n_range"]
    dimensions = f"{n} dimension carries" if n == 1 else f"{n} dimensions carry"
    text = f"{dimensions} information"
    if limits is not None and limits[0] != limits[1]:
        text += f", {limits[0]} to {limits[1]} if the limit were twice or half as high"
    settled, epochs, overfit = summary["settled_epoch"], summary["epochs"], summary.get("overfit_since")
    if settled is not None:
        text += f"; this had settled at epoch {settled} of {epochs}"
    else:
        text += f"; this had not settled within {epochs} epochs" + (": train for more" if overfit is None else "")
    return text if overfit is None else f"{text}, but {_overfit(overfit)}"


def _overfit(epoch: int) -> str:
    remedy = f"use more samples, or --epochs {max(epoch, FEWEST_EPOCHS)}"
    return f"since epoch {epoch} the loss on the samples held out rises, as samples are learned by heart: {remedy}"


@dataclass(frozen=True)
class Result:
    """A run directory that holds the run `config`; `summary` is None until the run is finished.

    Each file is read when it is first asked for, and then kept. Every table has all its columns; one that the file
    lacks is empty. A last line without its end, which a killed process leaves, is dropped. A missing or damaged table
    has no rows.
    """

    path: Path
    config: RunConfig
    summary: Summary | None

    @cached_property
    def state(self) -> State:
        """Whether the run is finished, or else whether a process works on it, or its last attempt failed."""
        if self.summary is not None:
            return "finished"
        if RunDirectory.at(self.path, self.config).busy:
            return "running"
        return "failed" if (self.path / FAILURE).exists() else "unfinished"

    @cached_property
    def failure(self) -> str:
        """Why the last attempt failed, in one line; empty if it did not."""
        if self.state != "failed":
            return ""
        lines = (self.path / FAILURE).read_text().splitlines()
        return lines[0] if lines else "unknown"

    @property
    def answer(self) -> Summary:
        """The summary of a run that is known to be finished."""
        assert self.summary is not None, f"{self.path} is not finished"
        return self.summary

    @property
    def found_epoch(self) -> int | None:
        """The epoch at which the rule had found the size; None if it did not.

        A rule that tells when its answer had settled goes on keeping spares after that, and stops later. For others it
        is the epoch of the stop.
        """
        answer = self.answer
        return answer["settled_epoch"] if "settled_epoch" in answer else answer["stop_epoch"]

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """``metrics.csv``: a row per epoch, with the columns of `COLUMNS`; NaN where an epoch was not measured.

        Losses and KL divergences are in nats per sample.
        """
        return self._table("metrics", COLUMNS["metrics"])

    @property
    def is_complete(self) -> bool:
        """Whether the run is finished and `metrics` has a row for each of its epochs."""
        return self.summary is not None and len(self.metrics) == self.summary["epochs"]

    @cached_property
    def latent(self) -> pd.DataFrame:
        """``latent.csv``: epoch, neuron and its KL divergence (`kl`, nats), a row per measured epoch and neuron."""
        return self._table("latent", COLUMNS["latent"])

    @cached_property
    def directions(self) -> pd.DataFrame:
        """``directions.csv``: information (nats) of each principal direction; no rows if the rule judges others."""
        return self._table("directions", COLUMNS["directions"])

    @cached_property
    def curve(self) -> pd.DataFrame:
        """``curve.csv``: a row per size, largest first, with the columns of ``metrics.csv``; no rows without a curve.

        The first row is the model whose size was found. `epoch` counts those of the run and those of the curve.
        """
        return self._table("curve", COLUMNS["curve"])

    @cached_property
    def latent_space(self) -> pd.DataFrame:
        """``latent_space.csv``: a row per validation sample, with its class (NaN without labels) and its cluster.

        `component_1` and `component_2` are its posterior mean, projected on the leading principal components.
        """
        return self._table("latent_space", LATENT_SPACE)

    @cached_property
    def decisions(self) -> pd.DataFrame:
        """``decisions.csv``: a row per decision of the rule.

        It holds the slopes that the rule saw (per epoch, NaN without one), its action and reason, and the neurons it
        removed, as text: numbers with spaces between them.
        """
        return self._table("decisions", COLUMNS["decisions"])

    @cached_property
    def times(self) -> pd.DataFrame:
        """``times.csv``: `train_seconds` and `metrics_seconds`, a row per epoch."""
        return self._table("times", COLUMNS["times"])

    def _table(self, name: str, columns: tuple[str, ...]) -> pd.DataFrame:
        import pandas as pd

        try:
            # Columns of text stay text: pandas would take the position of a single removed neuron for a number.
            table = pd.read_csv(io.StringIO(self._text(name)), dtype=dict.fromkeys(TEXT_COLUMNS, str))
            damaged = not pd.api.types.is_numeric_dtype(table[columns[0]])
        except (ValueError, KeyError):
            damaged = True
        return (pd.DataFrame() if damaged else table).reindex(columns=list(columns))

    def _text(self, table: str) -> str:
        """Return the whole lines of a table."""
        try:
            text = (self.path / f"{table}.csv").read_text(errors="replace")
        except OSError:
            return ""
        return text[: text.rfind("\n") + 1]

    def _rows(self, table: str) -> list[dict[str, Cell]]:
        """Return the rows of a table without pandas."""
        return [{name: parse_cell(cell) for name, cell in row.items()} for row in csv_rows(self._text(table))]

    @cached_property
    def last(self) -> dict[str, Cell]:
        """The last row of ``metrics.csv``; empty before the first epoch."""
        rows = self._rows("metrics")
        return rows[-1] if rows else {}

    @property
    def epochs(self) -> int:
        """The number of epochs that are done."""
        epoch = self.last.get("epoch")
        return epoch if isinstance(epoch, int) else 0

    @cached_property
    def seconds(self) -> float:
        """Seconds of training and metrics so far."""
        return self.seconds_until(math.inf)

    def seconds_until(self, epoch: float) -> float:
        """Return the seconds of training and metrics up to and including `epoch`."""
        rows = [row for row in self._rows("times") if isinstance(done := row.get("epoch"), int) and done <= epoch]
        cells = [row.get(name) for row in rows for name in ("train_seconds", "metrics_seconds")]
        return float(sum(cell for cell in cells if isinstance(cell, int | float)))

    @cached_property
    def sessions(self) -> list[Session]:
        """``provenance.json``: the processes that worked on the run, in order; none if it is missing or damaged."""
        try:
            sessions: list[Session] = json.loads((self.path / "provenance.json").read_text())["sessions"]
            return sessions if all(session.keys() >= Session.__required_keys__ for session in sessions) else []
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return []

    @property
    def model_header(self) -> dict[str, object] | None:
        """The header of the model file: the network's arguments, and what the data looked like; None if unreadable."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path / MODEL, framework="np") as file:
                header: dict[str, object] = json.loads(file.metadata()["aldvae"])
                return header
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None

    def image(self, name: str) -> Path | None:
        """Return the file of the image ``reconstructions``, ``samples`` or ``traversal``; None if there is none.

        It is a PNG, or an animated GIF for video; vectors have no images.
        """
        files = (self.path / f"{name}{suffix}" for suffix in (".png", ".gif"))
        return next((file for file in files if file.exists()), None)


def read_result(path: Path) -> Result | None:
    """Return the run in the directory `path`; None if there is none, or none whose settings can be read."""
    try:
        config = RunConfig.from_json(json.loads((path / "config.json").read_text())["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    directory = RunDirectory.at(path, config)
    try:
        summary = directory.summary() if directory.finished else None
    except AldvaeError:
        summary = None
    return Result(path, config, summary)


def read_results(results_dir: Path) -> list[Result]:
    """Return all runs under `results_dir`, however deep, sorted by what they are.

    Raises `ConfigError` if there is no such directory.
    """
    if not results_dir.is_dir():
        raise ConfigError("results_dir", f"{results_dir} is not there; name a directory that holds runs")
    found = (read_result(file.parent) for file in sorted(results_dir.rglob("config.json")))
    return sorted((result for result in found if result is not None), key=_order)


def _order(result: Result) -> tuple[str, str, str, int, int, str]:
    config = result.config
    rule, size, seed = str(config.settings["rule"]), config.model.init_dim, config.training.seed
    return (config.data.dataset, config.kind, rule, size, seed, config.name)
