"""Runs that belong together: the same but for their seed, and sizes and rules compared under the same settings."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from statistics import fmean
from typing import Any

import pandas as pd

from aldvae.compression.rules.registry import USUAL
from aldvae.config.presets import PROTOCOLS
from aldvae.config.run_config import COMPRESSION, RunConfig
from aldvae.runs.results import Result

# What a figure or table shows by itself, and so does not belong to a variant.
_SHOWN = {"kind", "dataset", "source", "init_dim", "seed", "stop", "rule"}


@dataclass(frozen=True, eq=False)
class Series:
    """Finished runs that differ in their seed alone, in the order of their seeds."""

    results: tuple[Result, ...]

    @property
    def config(self) -> RunConfig:
        """The settings of the first run."""
        return self.results[0].config

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds."""
        return tuple(result.config.seed for result in self.results)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The final size of each run."""
        return tuple(result.answer["latent_dim"] for result in self.results)

    @property
    def found(self) -> list[int]:
        """The final sizes of the runs whose rule stopped."""
        return [size for size, stop in zip(self.sizes, self.stops, strict=True) if stop is not None]

    @cached_property
    def stops(self) -> tuple[int | None, ...]:
        """The epoch at which the rule stopped in each run, or would have; None where it did not."""
        return tuple(result.answer["stop_epoch"] for result in self.results)

    @property
    def told(self) -> str:
        """The final sizes as text; in brackets where the rule did not stop."""
        return told_sizes(self.sizes, [stop is not None for stop in self.stops])

    def column(self, name: str) -> pd.DataFrame:
        """Return a column of ``metrics.csv``: a row per epoch, a column per seed."""
        return pd.DataFrame({seed: frame[name] for seed, frame in self._frames.items()})

    @cached_property
    def _frames(self) -> dict[int, pd.DataFrame]:
        return {result.config.seed: result.metrics.set_index("epoch") for result in self.results}

    def final(self, name: str) -> list[float]:
        """Return the last value of a metric in each run that has it."""
        values = [result.answer["final"].get(name) for result in self.results]
        return [float(value) for value in values if isinstance(value, int | float)]


def told_sizes(sizes: Sequence[int], found: Sequence[bool]) -> str:
    """Return sizes as text; in brackets those that were reached, not `found`."""
    return " ".join(str(size) if ok else f"({size})" for size, ok in zip(sizes, found, strict=True))


def series(results: Iterable[Result]) -> tuple[list[Series], list[str]]:
    """Group the finished runs among `results` by everything but their seed, in the order they come.

    Also returns a line for each thing left out: unfinished runs, a second copy of a run, runs with damaged tables.
    """
    groups: dict[Any, list[Result]] = {}
    left_out, seen, unfinished = list[str](), set[RunConfig](), 0
    for result in results:
        if result.summary is None:
            unfinished += 1
        elif result.config in seen:
            left_out.append(f"{result.path} is left out: it is a copy of a run that lies elsewhere here")
        elif not result.is_complete:
            left_out.append(f"{result.path} is left out: its metrics.csv is damaged; delete it to have it done again")
        else:
            seen.add(result.config)
            groups.setdefault(key(result.config, "seed"), []).append(result)
    if unfinished:
        left_out.append(f"{unfinished} unfinished runs are left out; the command that began them goes on")
    return [Series(tuple(sorted(group, key=lambda r: r.config.seed))) for group in groups.values()], left_out


def key(config: RunConfig, *without: str) -> tuple[Any, ...]:
    """Return all settings of `config` but those named, to compare runs by."""
    return tuple(value for name, value in asdict(config).items() if name not in without)


def variant(config: RunConfig, without: Collection[str] = ()) -> str:
    """Return what `config` sets otherwise than its dataset's protocol, in words; empty if nothing.

    Settings named in `without` are left out, so that runs that differ in them can be compared.
    """
    return ", ".join(words(config, without))


def words(config: RunConfig, without: Collection[str] = ()) -> list[str]:
    """Return the parts of `variant`, one for each setting."""
    known = PROTOCOLS.get(config.dataset) if config.source is None else None
    told = [] if config.source is None else [f"data {config.source[:6]}"]
    own = USUAL.get(config.rule, {})
    for field in fields(RunConfig):
        value, usual = getattr(config, field.name), getattr(known, field.name, field.default)
        if field.name not in _SHOWN and field.name not in without and value != own.get(field.name, usual):
            told.append(f"{field.name} {value}")
    return told


def first_start(series: Iterable[Series]) -> list[Series]:
    """Return, of the series that differ in their initial size alone, the one that starts largest."""
    largest: dict[Any, Series] = {}
    for one in series:
        same = key(one.config, "seed", "init_dim")
        if same not in largest or one.config.init_dim > largest[same].config.init_dim:
            largest[same] = one
    return list(largest.values())


def fixed(config: RunConfig, size: int) -> RunConfig:
    """Return the settings of the model of fixed `size` that an adaptive run is compared with."""
    usual: dict[str, Any] = {field.name: field.default for field in fields(RunConfig) if field.name in COMPRESSION}
    return replace(config, kind="fixed", init_dim=size, **usual)


def model_key(config: RunConfig, *without: str) -> tuple[Any, ...]:
    """Return what a run shares with the models of fixed size it is compared with, but for the settings named."""
    return key(fixed(config, config.init_dim), "seed", "init_dim", *without)


def spent(series: Sequence[Series], until_stop: bool = False) -> dict[str, float | None]:
    """Return the epochs, seconds (training and metrics) and images one seed spends on all of `series`.

    These are means over seeds, summed. With `until_stop`, runs count up to the epoch at which their rule stopped; one
    that did not stop counts whole.
    """
    epochs, seconds = 0.0, 0.0
    for one in series:
        whole = [result.answer["epochs"] for result in one.results]
        ends = [stop if until_stop and stop else end for stop, end in zip(one.stops, whole, strict=True)]
        epochs += fmean(ends)
        seconds += fmean(result.seconds_until(end) for result, end in zip(one.results, ends, strict=True))
    samples = series[0].results[0].answer.get("train_samples")
    return {
        "epochs": round(epochs, 4),
        "seconds": round(seconds, 1),
        "images": round(epochs * samples) if samples else None,
    }


# What a sweep lists, or decides itself.
_SWEPT = ("seed", "seeds", "init-dim", "dims")


def sweep_command(config: RunConfig, kind: str, seeds: Sequence[int]) -> str:
    """Return the command of a sweep of `kind` over `seeds`, and the paper's sizes, with the settings of a run."""
    words = " ".join(config.command.split(" ")[2:])
    options = [pair for pair in words.split(" --") if pair.removeprefix("--").split(" ")[0] not in _SWEPT]
    return f"aldvae {kind} {' --'.join(options)} --seeds {','.join(map(str, seeds))}"
