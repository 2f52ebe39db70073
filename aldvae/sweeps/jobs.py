"""Sweeps: lists of runs over one run type, with the paper's values where the user gives none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aldvae.compression.rules.base import SMALLEST_DIM
from aldvae.config.execution import Execution
from aldvae.config.presets import SEEDS, Protocol
from aldvae.config.resolve import configure, own_data, protocol_of
from aldvae.config.run_config import RunConfig
from aldvae.utils.errors import ConfigError, unknown_name

_LONGEST = 10_000


@dataclass(frozen=True)
class Job:
    """A run to do; `own_data` is where the user's own data lie."""

    config: RunConfig
    own_data: Path | None = None


@dataclass(frozen=True)
class JobList:
    """The jobs of a plan, and how many are `pending` until other jobs have found their size."""

    jobs: list[Job]
    pending: int = 0


@dataclass(frozen=True)
class SweepKind:
    """`run_kind` of every run of a sweep, the option that lists its `sizes` (None: one size), and its usual seeds."""

    run_kind: str
    sizes: str | None
    seeds: Sequence[int]

    def usual_sizes(self, known: Protocol) -> Sequence[int]:
        """Return the paper's sizes for a dataset: the grid's, or the initial ones, or the first of these."""
        if self.sizes is None:
            return known.init_dims[:1]
        return known.grid if self.sizes == "dims" else known.init_dims


KINDS = {
    "adaptive": SweepKind("adaptive", None, (0,)),
    "grid": SweepKind("fixed", "dims", SEEDS),
    "sweep-init": SweepKind("adaptive", "init_dims", SEEDS),
    "seeds": SweepKind("adaptive", None, SEEDS),
}


def sweep(
    kind: str,
    dataset: str,
    execution: Execution | None = None,
    *,
    sizes: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
    **given: Any,
) -> list[Job]:
    """Return the runs of a sweep of `kind` (see `KINDS`) over `sizes` and `seeds`, all sizes of a seed together.

    `given` are settings of all its runs, and perhaps their `protocol` (see `configure`). Raises `ConfigError` naming
    the option that makes no sense.
    """
    if kind not in KINDS:
        raise unknown_name("kind", kind, list(KINDS))
    what = KINDS[kind]
    known, source = protocol_of(dataset, given.get("resize"), execution)
    sizes, seeds = sizes or what.usual_sizes(known), what.seeds if seeds is None else seeds
    if not sizes:
        raise ConfigError(what.sizes or "dims", f"is needed: {dataset} has too few columns for the usual sizes")
    if len(sizes) * len(seeds) > _LONGEST:
        raise ConfigError(what.sizes or "seeds", f"makes more than {_LONGEST} runs; give fewer")
    if what.sizes is not None and min(sizes) < SMALLEST_DIM:
        raise ConfigError(what.sizes, f"must be {SMALLEST_DIM} or more, not {min(sizes)}")
    first = configure(what.run_kind, dataset, known, source, **{"init_dim": sizes[0], **given})
    if what.sizes is None:
        sizes = [first.init_dim]
    return [Job(replace(first, init_dim=size, seed=seed), own_data(dataset)) for seed in seeds for size in sizes]


def distinct(jobs: Iterable[Job]) -> list[Job]:
    """Return `jobs` without repetitions, in their order: the same run may be part of several sweeps."""
    return list({job.config.name: job for job in jobs}.values())


def numbers(option: str, text: str) -> list[int]:
    """Return the whole numbers of a list such as ``4,8,12``, ``0-4`` or ``0-2,7``.

    Raises `ConfigError` naming the `option` for anything else, and for a number listed twice.
    """
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:\s*-\s*(\d{1,9}))?\s*", part)
        if not match:
            raise ConfigError(option, f"takes a list such as 4,8,12 or a range such as 0-4, not {text}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first >= _LONGEST:
            raise ConfigError(option, f"has a range that is empty or too long: {part.strip()}")
        found += range(first, last + 1)
    if len(set(found)) < len(found):
        raise ConfigError(option, f"lists a number twice: {text}")
    return found
