"""Grid searches among the runs, and the yardstick that each gives: the smallest size as good as the best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from statistics import fmean, variance

import pandas as pd

from aldvae.analysis.series import GroupKey, Series, describe, model_key
from aldvae.config.run_config import METRICS_SETTINGS, RunConfig
from aldvae.metrics.criterion import Criterion
from aldvae.metrics.table import FRECHET, LOSS
from aldvae.runs.results import Result

# Settings of metrics change no model. Of these, only those of the Fréchet distances change the answer of a grid.
_METRIC_SETTINGS = ("clusters", *METRICS_SETTINGS)
_WITHOUT_EFFECT = tuple(name for name in _METRIC_SETTINGS if not name.startswith("fid_"))


@dataclass(frozen=True, eq=False)
class Grid:
    """A grid search: models of at least two fixed sizes, smallest first, with equal settings and one or more seeds."""

    points: tuple[Series, ...]

    @property
    def config(self) -> RunConfig:
        """The settings of the first run; others may differ in settings that change no answer."""
        return self.points[0].config

    @property
    def description(self) -> str:
        """The settings that differ from the dataset's preset, as text."""
        return describe(self.config, _WITHOUT_EFFECT)

    @property
    def sizes(self) -> list[int]:
        """The sizes, smallest first."""
        return [point.config.model.init_dim for point in self.points]

    @cached_property
    def values(self) -> dict[str, dict[int, list[float]]]:
        """The final values by metric and size, one for each seed.

        ``loss`` is `recon_loss` + `beta` * `kl`, in nats per sample: with `beta` 1 the negative ELBO. Fréchet distances
        that were not measured are absent.
        """
        distances = {name: self._final(name) for name in FRECHET}
        recon_loss, kl = self._final("recon_loss"), self._final("kl")
        loss = {
            size: [r + self.config.model.beta * k for r, k in zip(recon_loss[size], kl[size], strict=True)]
            for size in self.sizes
        }
        return {LOSS.name: loss} | {name: values for name, values in distances.items() if all(values.values())}

    def _final(self, name: str) -> dict[int, list[float]]:
        return {point.config.model.init_dim: point.final(name) for point in self.points}

    def answers_for(self, series: Series) -> bool:
        """Return whether `series` are adaptive runs with the same data, model and training as this grid."""
        models, wanted = (model_key(config, *_METRIC_SETTINGS) for config in (self.config, series.config))
        return series.finds_size and models == wanted


def find_grids(all_series: Iterable[Series]) -> list[Grid]:
    """Return the grid searches among the series, in the order in which they come.

    Runs of one grid may differ in settings of metrics that change neither the models nor their Fréchet distances
    (`metrics_every`, those of the Silhouette score); the same model measured twice counts once. A size is left out if
    it has less than half as many seeds as the size with the most, or a single one where others have more: such models
    were trained to match a size found, or belong to a grid that is not finished.
    """
    groups: dict[GroupKey, dict[int, dict[int, Result]]] = {}
    for series in all_series:
        if series.config.compression is None:
            sizes = groups.setdefault(model_key(series.config, *_WITHOUT_EFFECT), {})
            seeds = sizes.setdefault(series.config.model.init_dim, {})
            seeds.update((result.config.training.seed, result) for result in series.results)
    all_points = [_points(sizes) for sizes in groups.values()]
    return [Grid(points) for points in all_points if len(points) > 1]


def _points(sizes: dict[int, dict[int, Result]]) -> tuple[Series, ...]:
    most = max(map(len, sizes.values()))
    least = max(min(2, most), (most + 1) // 2)
    kept = sorted(size for size, seeds in sizes.items() if len(seeds) >= least)
    return tuple(Series(tuple(sizes[size][seed] for seed in sorted(sizes[size]))) for size in kept)


CRITERIA = (LOSS.name, *FRECHET)


@dataclass(frozen=True)
class Yardstick:
    """The answer of a grid search: a criterion for each metric; none if a size has fewer than two seeds."""

    criteria: Mapping[str, Criterion]

    @property
    def size(self) -> int | None:
        """The smallest size that is good by every criterion; None if there is none."""
        good = [set(criterion.good) for criterion in self.criteria.values()]
        return min(set[int].intersection(*good), default=None) if good else None

    @property
    def note(self) -> str:
        """Why there is no yardstick, or why to doubt it: the grid may end too early; empty if all is well."""
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
    """Return the yardstick of `values`: for each metric and size, a number for each seed.

    All metrics have the same sizes, at least one; the number of seeds may differ. If any size has fewer than two seeds,
    there is no standard error and no yardstick.
    """
    if any(len(seeds) < 2 for by_size in values.values() for seeds in by_size.values()):
        return Yardstick({})
    return Yardstick({name: _criterion(by_size) for name, by_size in values.items()})


def _criterion(by_size: Mapping[int, Sequence[float]]) -> Criterion:
    means = {size: fmean(seeds) for size, seeds in by_size.items()}
    errors = {size: sqrt(variance(seeds) / len(seeds)) for size, seeds in by_size.items()}
    return Criterion(means, errors)


def yardstick_table(grids: Iterable[Grid]) -> pd.DataFrame:
    """Return a row for each grid: its yardstick, and the size that each metric alone would give.

    ``seeds`` is the number of seeds of each of the ``sizes``; ``note`` says why there is no yardstick, or why to doubt
    it.
    """
    rows = []
    for grid in grids:
        yardstick = find_yardstick(grid.values)
        criteria = {name: yardstick.criteria.get(name) for name in CRITERIA}
        rows.append(
            {
                "dataset": grid.config.data.dataset,
                "settings": grid.description,
                "fid_features": grid.config.metrics.fid_features,
                "sizes": " ".join(map(str, grid.sizes)),
                "seeds": " ".join(str(len(point.seeds)) for point in grid.points),
                "yardstick": yardstick.size,
                **{f"size_by_{name}": criterion.good[0] if criterion else None for name, criterion in criteria.items()},
                "note": yardstick.note,
            }
        )
    # Objects keep a size an integer in a column where another size is missing.
    return pd.DataFrame(rows, dtype=object)
