"""Other people's answers beside ours, read off the same runs: what each method finds, and what that costs.

The grid search is what the others are measured by: its answer is the yardstick. Two methods read the size off one
model that is too large, here the largest of the grid, after its last epoch:

- *active units*: the dimensions whose posterior mean varies over samples (column ``active_units``).
- *FONDUE idea*: Bonheme and Grzes look for the largest size at which the mean and the sampled representation do not
  part, which they do where passive dimensions appear. This is that idea alone, the size less its passive dimensions
  (column ``dims_passive``). It is not their algorithm, which compares estimates of the intrinsic dimension of the two
  representations for several sizes, each trained for a few epochs.

Where such a model has no dimension to spare it was not too large, and its size is not counted as found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from aldvae.analysis.grid_search import Grid, find_yardstick, grids
from aldvae.analysis.series import Series, spent, told_sizes, words
from aldvae.analysis.statistics import deviation, mean


@dataclass(frozen=True)
class Method:
    """What one method answers on one dataset.

    `init_dim` is the size it starts from, None for a grid search. `sizes` holds an answer for each seed; those that are
    not `found` were merely reached. `spent` are the epochs, seconds and images of one seed until the answer is known.
    """

    name: str
    init_dim: int | None
    sizes: tuple[int, ...]
    found: tuple[bool, ...]
    spent: Mapping[str, float | None]

    @property
    def sizes_found(self) -> list[int]:
        """The answers that count."""
        return [size for size, found in zip(self.sizes, self.found, strict=True) if found]


def methods(series: Sequence[Series]) -> pd.DataFrame:
    """Return, for each grid, what it and the other methods answer and spend.

    ``sizes`` has one for each seed, in brackets where it was reached and not found; mean, ``error`` (the mean less the
    yardstick) and deviation are over the others. Costs are of one seed, until the answer is known: of a rule up to its
    stop, a run that did not stop counted whole; of a grid search all its points. There is no error without a yardstick.
    """
    rows = []
    for grid in grids(series):
        yardstick = find_yardstick(grid.values).size
        for method in (_grid_search(grid, yardstick), *other_methods(grid, series)):
            row = {"dataset": grid.config.dataset, "settings": grid.settings, "fid_features": grid.config.fid_features}
            rows.append(row | _row(method, yardstick))
    return pd.DataFrame(rows, dtype=object)


def _row(method: Method, yardstick: int | None) -> dict[str, Any]:
    size = mean(method.sizes_found)
    return {
        "method": method.name,
        "init_dim": method.init_dim,
        "sizes": told_sizes(method.sizes, method.found),
        "size_mean": size,
        "yardstick": yardstick,
        "error": None if size is None or yardstick is None else round(size - yardstick, 4),
        "size_deviation": deviation(method.sizes_found),
        "found": f"{sum(method.found)} of {len(method.found)}" if method.found else None,
        **method.spent,
    }


def _grid_search(grid: Grid, yardstick: int | None) -> Method:
    sizes = () if yardstick is None else (yardstick,)
    return Method("grid search", None, sizes, tuple(True for _ in sizes), spent(grid.points))


def other_methods(grid: Grid, series: Sequence[Series]) -> Iterator[Method]:
    """Yield what other methods than `grid` itself answer: those read off its largest models, and the adaptive runs."""
    largest = grid.points[-1]
    size = largest.config.init_dim
    active = [int(units) for units in largest.final("active_units")]
    used = [size - int(passive) for passive in largest.final("dims_passive")]
    for name, sizes in (("active units", active), ("FONDUE idea", used)):
        yield Method(name, size, tuple(sizes), tuple(found < size for found in sizes), spent([largest]))
    yield from sorted((_rule(grid, one) for one in series if grid.fits(one)), key=lambda m: (m.name, m.init_dim))


def _rule(grid: Grid, one: Series) -> Method:
    usual = words(grid.config)
    name = ", ".join([f"rule {one.config.rule}", *(word for word in words(one.config) if word not in usual)])
    found = tuple(stop is not None for stop in one.stops)
    return Method(name, one.config.init_dim, one.sizes, found, spent([one], until_stop=True))
