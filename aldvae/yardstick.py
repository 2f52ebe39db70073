"""The yardstick: the smallest latent size of a grid search whose quality cannot be told from the best.

Quality is the final loss (with `beta` 1 the negative ELBO) and both Fréchet distances, on validation samples; lower is
better. By one metric, a size is good if its mean over seeds is at most one standard error above the mean of the best
size, the one with the lowest mean; the standard error is that of the best size's mean (the one-standard-error rule).
The yardstick is the smallest size that is good by all metrics. Where no size is, there is none: the metrics disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, variance

import pandas as pd

from aldvae.grids import Grid

CRITERIA = ("loss", "fid_recon", "fid_gen")


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
