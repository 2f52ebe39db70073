"""Sweeps: lists of jobs over one kind of run, with the paper's sizes and seeds where the user gives none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aldvae.compression.rules.base import SMALLEST_DIM
from aldvae.config.execution import Execution
from aldvae.config.presets import SEEDS, Preset
from aldvae.config.resolve import Overrides, configure, find_data, own_data
from aldvae.config.run_config import RunConfig
from aldvae.utils.errors import ConfigError, unknown_name

_MOST_RUNS = 10_000


@dataclass(frozen=True)
class Job:
    """A run to execute; `own_data` is the path of the user's own data, None for a built-in dataset."""

    config: RunConfig
    own_data: Path | None = None


@dataclass(frozen=True)
class JobList:
    """The jobs known now, and how many more are `pending` until other runs have found their size."""

    jobs: list[Job]
    pending: int = 0


@dataclass(frozen=True)
class SweepKind:
    """A kind of sweep: runs of `run_kind`, over `sizes` and `seeds`.

    `sizes` is the option that lists the sizes (None: all runs have one size), `seeds` the default seeds.
    """

    run_kind: str
    sizes: str | None
    seeds: Sequence[int]

    def default_sizes(self, preset: Preset) -> Sequence[int]:
        """Return the dataset's sizes for this sweep, which lists sizes: the grid's or the initial ones."""
        return preset.grid if self.sizes == "dims" else preset.init_dims


KINDS = {
    "adaptive": SweepKind("adaptive", None, (0,)),
    "grid": SweepKind("fixed", "dims", SEEDS),
    "sweep-init": SweepKind("adaptive", "init_dims", SEEDS),
    "seeds": SweepKind("adaptive", None, SEEDS),
}


def sweep(
    kind: str,
    dataset: str,
    overrides: Overrides | None = None,
    execution: Execution | None = None,
    *,
    sizes: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
) -> list[Job]:
    """Return the jobs of a sweep of `kind` (see `KINDS`) over `sizes` and `seeds`, all sizes of a seed together.

    Only kinds that list sizes take `sizes`. `overrides` hold for all runs. Raises `ConfigError` naming the option that
    is wrong.
    """
    if kind not in KINDS:
        raise unknown_name("kind", kind, list(KINDS))
    sweep_kind, overrides = KINDS[kind], overrides or Overrides()
    data = find_data(dataset, overrides.settings.get("resize"), execution)
    seeds = sweep_kind.seeds if seeds is None else seeds
    if sweep_kind.sizes is not None:
        sizes = sizes or sweep_kind.default_sizes(data.preset)
        _check_sizes(sweep_kind.sizes, dataset, sizes)
        overrides = Overrides({"init_dim": sizes[0], **overrides.settings}, overrides.protocol)
    first = configure(sweep_kind.run_kind, data, overrides, execution)
    variants: list[dict[str, int]] = [{"init_dim": size} for size in sizes or ()] or [{}]
    if len(variants) * len(seeds) > _MOST_RUNS:
        raise ConfigError(sweep_kind.sizes or "seeds", f"makes more than {_MOST_RUNS} runs; give fewer")
    configs = [first.override(**variant, seed=seed) for seed in seeds for variant in variants]
    return [Job(config, own_data(dataset)) for config in configs]


def _check_sizes(option: str, dataset: str, sizes: Sequence[int]) -> None:
    if not sizes:
        raise ConfigError(option, f"is needed: {dataset} has too few columns for the default sizes")
    if min(sizes) < SMALLEST_DIM:
        raise ConfigError(option, f"must be {SMALLEST_DIM} or more, not {min(sizes)}")


def distinct(jobs: Iterable[Job]) -> list[Job]:
    """Return `jobs` without repetitions, in their order: the same run may be part of several sweeps."""
    return list({job.config.name: job for job in jobs}.values())


def parse_int_list(option: str, text: str) -> list[int]:
    """Return the whole numbers of a list such as ``4,8,12``, ``0-4`` or ``0-2,7``.

    Raises `ConfigError` naming the `option` for anything else, and for a number listed twice.
    """
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:\s*-\s*(\d{1,9}))?\s*", part)
        if not match:
            raise ConfigError(option, f"takes a list such as 4,8,12 or a range such as 0-4, not {text}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first >= _MOST_RUNS:
            raise ConfigError(option, f"has a range that is empty or too long: {part.strip()}")
        numbers += range(first, last + 1)
    if len(set(numbers)) < len(numbers):
        raise ConfigError(option, f"lists a number twice: {text}")
    return numbers
