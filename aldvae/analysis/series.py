"""Series of runs that differ in their seed alone, and how series are compared: by settings, size and cost."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

import pandas as pd

from aldvae.compression.rules.registry import rule_defaults
from aldvae.config.presets import PAPER, PRESETS, RECOMMENDED, protocol_settings
from aldvae.config.run_config import COMPRESSION_SETTINGS, DEFAULTS, METRICS_SETTINGS, RunConfig
from aldvae.runs.results import Result

# Settings that every figure and table shows anyway, or that change no answer, and so are no part of a description.
_SHOWN = {"dataset", "source", "init_dim", "seed", "stop", "rule", "curve", "curve_epochs", "keep_sizes"}
# Options that a sweep lists or sets itself.
_SWEPT = ("seed", "seeds", "init-dim", "dims")

GroupKey = tuple[object, ...]


@dataclass(frozen=True, eq=False)
class Series:
    """Finished runs that differ in their seed alone, sorted by seed."""

    results: tuple[Result, ...]

    @property
    def config(self) -> RunConfig:
        """The settings of the first run."""
        return self.results[0].config

    @property
    def finds_size(self) -> bool:
        """Whether the runs are adaptive and end with the size at which their rule stopped."""
        return self.config.compression is not None and self.config.compression.stop

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each run."""
        return tuple(result.config.training.seed for result in self.results)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The final latent size of each run."""
        return tuple(result.answer["latent_dim"] for result in self.results)

    @cached_property
    def stop_epochs(self) -> tuple[int | None, ...]:
        """The epoch at which each run found its size, or would have with ``--no-stop``; None if it did not."""
        return tuple(result.found_epoch for result in self.results)

    @property
    def stopped(self) -> tuple[bool, ...]:
        """Whether the rule of each run stopped: its final size was found, not merely reached."""
        return tuple(epoch is not None for epoch in self.stop_epochs)

    @property
    def sizes_found(self) -> list[int]:
        """The final sizes of the runs whose rule stopped."""
        return [size for size, stopped in zip(self.sizes, self.stopped, strict=True) if stopped]

    @property
    def epochs_found(self) -> list[int]:
        """The epochs at which the rules stopped, of the runs in which they did."""
        return [epoch for epoch in self.stop_epochs if epoch is not None]

    @property
    def sizes_text(self) -> str:
        """The final sizes as text, in brackets where the rule did not stop."""
        return format_sizes(self.sizes, self.stopped)

    def column(self, name: str) -> pd.DataFrame:
        """Return a column of ``metrics.csv`` with a row per epoch and a column per seed."""
        return pd.DataFrame({seed: metrics[name] for seed, metrics in self._metrics.items()})

    @cached_property
    def _metrics(self) -> dict[int, pd.DataFrame]:
        return {result.config.training.seed: result.metrics.set_index("epoch") for result in self.results}

    def final(self, name: str) -> list[float]:
        """Return the final value of a metric for each run that measured it."""
        values = [result.answer["final"].get(name) for result in self.results]
        return [float(value) for value in values if isinstance(value, int | float)]


def format_sizes(sizes: Sequence[int], found: Sequence[bool]) -> str:
    """Return sizes as text with spaces between them, in brackets those that were reached but not `found`."""
    return " ".join(str(size) if ok else f"({size})" for size, ok in zip(sizes, found, strict=True))


def group_by_seed(results: Iterable[Result]) -> tuple[list[Series], list[str]]:
    """Group the finished runs by all settings except the seed, in the order in which they come.

    Also returns a line for each thing left out: unfinished runs, second copies of a run, runs with a damaged table.
    """
    groups: dict[GroupKey, list[Result]] = {}
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
            groups.setdefault(group_key(result.config, "seed"), []).append(result)
    if unfinished:
        left_out.append(f"{unfinished} unfinished runs are left out; the command that started them resumes them")
    return [Series(tuple(sorted(group, key=lambda r: r.config.training.seed))) for group in groups.values()], left_out


def group_key(config: RunConfig, *without: str) -> GroupKey:
    """Return all settings of `config` except those named: runs with equal keys belong to one group."""
    return (config.kind, *(value for name, value in config.settings.items() if name not in without))


def describe(config: RunConfig, without: Collection[str] = ()) -> str:
    """Return the `differences` of `config` as one text, such as ``beta 4.0, epochs 40``; empty if there are none."""
    return ", ".join(differences(config, without))


def differences(config: RunConfig, without: Collection[str] = (), protocol: str = PAPER) -> list[str]:
    """Return the settings in which `config` differs from a protocol on its dataset, such as ``beta 4.0``.

    Settings named in `without` are left out, so that runs that differ in them get the same description. A protocol
    other than the paper's must be that of a run on a built-in dataset.
    """
    preset = PRESETS.get(config.data.dataset) if config.data.source is None else None
    defaults = {**DEFAULTS, **(preset.settings if preset else {}), **rule_defaults(str(config.settings["rule"]))}
    if preset:
        defaults |= protocol_settings(protocol, preset)
    found = [] if config.data.source is None or "source" in without else [f"data {config.data.source[:6]}"]
    for name, value in config.settings.items():
        if name not in _SHOWN and name not in without and value != defaults[name]:
            found.append(f"{name} {value}")
    return found


def protocol_of(config: RunConfig) -> str:
    """Return the protocol that gave a run its rule and its model; the paper's if neither of the others did.

    The settings of metrics do not matter, as they change no model.
    """
    preset = PRESETS.get(config.data.dataset) if config.data.source is None else None
    if preset is None:
        return PAPER
    for protocol in ("authors", RECOMMENDED):
        wanted = protocol_settings(protocol, preset)
        compared = wanted.keys() - set(METRICS_SETTINGS)
        if config.compression is None:
            compared -= set(COMPRESSION_SETTINGS)
        if config.model.likelihood != "gaussian":
            compared -= {"scale", "standardise"}
        if all(config.settings[name] == wanted[name] for name in compared):
            return protocol
    return PAPER


def largest_start(all_series: Iterable[Series]) -> list[Series]:
    """Return, among series that differ in their initial size alone, the one with the largest."""
    largest: dict[GroupKey, Series] = {}
    for series in all_series:
        key = group_key(series.config, "seed", "init_dim")
        if key not in largest or series.config.model.init_dim > largest[key].config.model.init_dim:
            largest[key] = series
    return list(largest.values())


def fixed_size_config(config: RunConfig, size: int) -> RunConfig:
    """Return the settings of the model of fixed `size` that an adaptive run is compared with."""
    shared = {name: value for name, value in config.settings.items() if name not in COMPRESSION_SETTINGS}
    return RunConfig.from_settings("fixed", {**shared, "init_dim": size})


def matching_configs(series: Series) -> list[RunConfig]:
    """Return, for each run of `series`, the settings of the model that has its final size from the start."""
    return [fixed_size_config(run.config, size) for run, size in zip(series.results, series.sizes, strict=True)]


def pair_with_fixed(series: Series, all_series: Iterable[Series]) -> tuple[Series, Series] | None:
    """Return the runs of `series` whose matching models are among `all_series`, and these models.

    Both have the same seeds; None if there are no such models.
    """
    fixed = {run.config: run for other in all_series for run in other.results if run.config.compression is None}
    runs = zip(series.results, matching_configs(series), strict=True)
    pairs = [(run, fixed[config]) for run, config in runs if config in fixed]
    if not pairs:
        return None
    adaptive, matching = zip(*pairs, strict=True)
    return Series(adaptive), Series(matching)


def model_key(config: RunConfig, *without: str) -> GroupKey:
    """Return the settings that a run shares with the fixed-size models it is compared with, except those named."""
    return group_key(fixed_size_config(config, config.model.init_dim), "seed", "init_dim", *without)


def cost(all_series: Sequence[Series], until_stop: bool = False) -> dict[str, float | None]:
    """Return the epochs, seconds (training and metrics) and images that one seed of all these series takes together.

    Each series counts with its mean over seeds. With `until_stop`, runs count up to the epoch at which their rule
    stopped; a run that did not stop counts whole. `images` is None for runs that did not record their sample count.
    """
    epochs, seconds = 0.0, 0.0
    for series in all_series:
        last = [result.answer["epochs"] for result in series.results]
        ends = [stop if until_stop and stop else end for stop, end in zip(series.stop_epochs, last, strict=True)]
        epochs += fmean(ends)
        seconds += fmean(result.seconds_until(end) for result, end in zip(series.results, ends, strict=True))
    samples = all_series[0].results[0].answer.get("train_samples")
    return {
        "epochs": round(epochs, 4),
        "seconds": round(seconds, 1),
        "images": round(epochs * samples) if samples else None,
    }


def sweep_command(config: RunConfig, kind: str, seeds: Sequence[int]) -> str:
    """Return the command of a sweep of `kind` with the settings of `config`, over `seeds` and the preset's sizes."""
    arguments = " ".join(config.command.split(" ")[2:])
    options = [pair for pair in arguments.split(" --") if pair.removeprefix("--").split(" ")[0] not in _SWEPT]
    return f"aldvae {kind} {' --'.join(options)} --seeds {','.join(map(str, seeds))}"
