"""Grid searches among the runs: models of several fixed sizes under the same settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from statistics import fmean, variance
from typing import Any

import pandas as pd

from aldvae.analysis.series import Series, model_key, variant
from aldvae.config.run_config import MEASUREMENT, RunConfig
from aldvae.metrics.table import FRECHET, LOSS
from aldvae.runs.results import Result

# What is measured changes no model. Of it, only what is behind the Fréchet distances changes what a grid answers.
_MEASURED = ("clusters", *MEASUREMENT)
_UNSEEN = tuple(name for name in _MEASURED if not name.startswith("fid_"))


@dataclass(frozen=True, eq=False)
class Grid:
    """Models of two fixed sizes or more, smallest first, each with some seeds; all else that matters is equal."""

    points: tuple[Series, ...]

    @property
    def config(self) -> RunConfig:
        """The settings of the first run; those that do not matter may differ in others."""
        return self.points[0].config

    @property
    def settings(self) -> str:
        """What is set otherwise than the protocol says, in words."""
        return variant(self.config, _UNSEEN)

    @property
    def sizes(self) -> list[int]:
        """The sizes, smallest first."""
        return [point.config.init_dim for point in self.points]

    @cached_property
    def values(self) -> dict[str, dict[int, list[float]]]:
        """Values after the last epoch by metric, size and seed.

        ``loss`` is `recon_loss` + `beta` * `kl`, in nats per sample: with `beta` 1 the negative ELBO. ``fid_recon``
        and ``fid_gen`` are left out where they were not measured.
        """
        distances = {name: self._final(name) for name in FRECHET}
        recon_loss, kl = self._final("recon_loss"), self._final("kl")
        loss = {
            size: [r + self.config.beta * k for r, k in zip(recon_loss[size], kl[size], strict=True)]
            for size in self.sizes
        }
        return {LOSS.name: loss} | {name: values for name, values in distances.items() if all(values.values())}

    def _final(self, name: str) -> dict[int, list[float]]:
        return {point.config.init_dim: point.final(name) for point in self.points}

    def fits(self, one: Series) -> bool:
        """Whether `one` are adaptive runs that look for the size of these models, trained for as many epochs."""
        wanted = model_key(self.config, *_MEASURED)
        return one.config.kind == "adaptive" and one.config.stop and model_key(one.config, *_MEASURED) == wanted


def grids(series: Iterable[Series]) -> list[Grid]:
    """Return the grid searches among `series`, in the order they come.

    Runs of one grid may differ in settings of metrics that change neither the models nor their Fréchet distances
    (`metrics_every`, those of the Silhouette score); the same model measured twice counts once. A size with less than
    half the seeds of that with the most, or a single one where others have more, is left out: it is a model trained to
    match a size found, or a grid that is not yet finished.
    """
    groups: dict[Any, dict[int, dict[int, Result]]] = {}
    for one in series:
        if one.config.kind == "fixed":
            sizes = groups.setdefault(model_key(one.config, *_UNSEEN), {})
            seeds = sizes.setdefault(one.config.init_dim, {})
            seeds.update((result.config.seed, result) for result in one.results)
    found = [_points(sizes) for sizes in groups.values()]
    return [Grid(points) for points in found if len(points) > 1]


def _points(sizes: dict[int, dict[int, Result]]) -> tuple[Series, ...]:
    most = max(map(len, sizes.values()))
    least = max(min(2, most), (most + 1) // 2)
    kept = sorted(size for size, seeds in sizes.items() if len(seeds) >= least)
    return tuple(Series(tuple(sizes[size][seed] for seed in sorted(sizes[size]))) for size in kept)


CRITERIA = (LOSS.name, *FRECHET)


@dataclass(frozen=True)
class Criterion:
    """One metric by size: `means` over seeds, and the standard `errors` of these means, in the metric's unit."""

    means: Mapping[int, float]
    errors: Mapping[int, float]

    @property
    def best(self) -> int:
        """The size with the lowest mean; of several, the smallest."""
        return min(sorted(self.means), key=lambda size: self.means[size])

    @property
    def limit(self) -> float:
        """The highest mean that is still good: one standard error of the best above it."""
        return self.means[self.best] + self.errors[self.best]

    @property
    def good(self) -> list[int]:
        """The sizes that are as good as the best, smallest first; never empty."""
        return [size for size in sorted(self.means) if self.means[size] <= self.limit]


@dataclass(frozen=True)
class Yardstick:
    """What a grid search answers: its `criteria` by metric, none where there are too few seeds for a standard error."""

    criteria: Mapping[str, Criterion]

    @property
    def size(self) -> int | None:
        """The smallest size that is good by every criterion; None where there is none."""
        good = [set(criterion.good) for criterion in self.criteria.values()]
        return min(set[int].intersection(*good), default=None) if good else None

    @property
    def note(self) -> str:
        """Why there is no yardstick, and where the grid ends too early to trust it; empty if all is well."""
        if not self.criteria:
            return "no yardstick: a standard error needs two seeds for each size"
        notes = [] if self.size else ["no yardstick: the metrics disagree"]
        sizes = next(iter(self.criteria.values())).means
        if self.size == min(sizes):
            notes.append("the smallest size of the grid: a smaller one might do")
        ends = [name for name, criterion in self.criteria.items() if criterion.good == [max(sizes)]]
        if ends:
            notes.append(f"by {', '.join(ends)} only the largest size of the grid: a larger one might be better")
        return "; ".join(notes)


def find_yardstick(values: Mapping[str, Mapping[int, Sequence[float]]]) -> Yardstick:
    """Return the yardstick of `values`, which hold a number for each seed by metric and size.

    All metrics have the same sizes, at least one; the number of seeds may differ. With fewer than two seeds at any
    size there is no standard error, and no yardstick.
    """
    if any(len(seeds) < 2 for by_size in values.values() for seeds in by_size.values()):
        return Yardstick({})
    return Yardstick({name: _criterion(by_size) for name, by_size in values.items()})


def _criterion(by_size: Mapping[int, Sequence[float]]) -> Criterion:
    means = {size: fmean(seeds) for size, seeds in by_size.items()}
    errors = {size: sqrt(variance(seeds) / len(seeds)) for size, seeds in by_size.items()}
    return Criterion(means, errors)


def yardsticks(grids: Iterable[Grid]) -> pd.DataFrame:
    """Return the yardstick of each grid, and the size that each metric alone would name.

    ``seeds`` is their number for each of the ``sizes``; ``note`` says why there is no yardstick, or what to doubt.
    """
    rows = []
    for grid in grids:
        yardstick = find_yardstick(grid.values)
        alone = {f"size_by_{name}": yardstick.criteria.get(name) for name in CRITERIA}
        rows.append(
            {
                "dataset": grid.config.dataset,
                "settings": grid.settings,
                "fid_features": grid.config.fid_features,
                "sizes": " ".join(map(str, grid.sizes)),
                "seeds": " ".join(str(len(point.seeds)) for point in grid.points),
                "yardstick": yardstick.size,
                **{name: criterion.good[0] if criterion else None for name, criterion in alone.items()},
                "note": yardstick.note,
            }
        )
    # Of objects, so that a size stays a whole number beside one that is not there.
    return pd.DataFrame(rows, dtype=object)
