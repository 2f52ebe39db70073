"""Methods compared on the same runs: the latent size that each answers, and what the answer costs.

The grid search is the reference: its answer is the yardstick. Two methods read the size off one model that is too
large, here the largest of the grid, after its last epoch:

- *active units*: the number of dimensions whose posterior mean varies over samples (column ``active_units``).
- *FONDUE idea*: Bonheme and Grzes look for the largest size at which the mean and the sampled representation agree;
  they differ once there are passive dimensions. Here this idea alone is used: the size less its passive dimensions
  (column ``dims_passive``). Their algorithm is another one: it compares estimates of the intrinsic dimension of the two
  representations for several sizes, each trained for a few epochs.

If all dimensions of such a model are in use, it was not too large, and its size does not count as found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from aldvae.analysis.grid_search import Grid, find_grids, find_yardstick
from aldvae.analysis.series import Series, cost, differences, format_sizes
from aldvae.analysis.statistics import deviation, mean


@dataclass(frozen=True)
class Method:
    """The answer of one method on one dataset.

    `init_dim` is the size it starts from, None for a grid search. `sizes` holds an answer for each seed; one that is
    not `found` was merely reached. `cost` is the epochs, seconds and images of one seed until the answer is known.
    """

    name: str
    init_dim: int | None
    sizes: tuple[int, ...]
    found: tuple[bool, ...]
    cost: Mapping[str, float | None]

    @property
    def sizes_found(self) -> list[int]:
        """The answers that count."""
        return [size for size, found in zip(self.sizes, self.found, strict=True) if found]


def comparison_table(all_series: Sequence[Series]) -> pd.DataFrame:
    """Return a row for each grid and method: its answer, its error and its cost.

    ``sizes`` has an answer for each seed, in brackets if it was reached but not found; the mean, ``error`` (the mean
    less the yardstick, empty without one) and the deviation are over the others. Costs are those of one seed until the
    answer is known: a rule's up to its stop, or whole if it did not stop; a grid search's with all its sizes.
    """
    rows = []
    for grid in find_grids(all_series):
        yardstick = find_yardstick(grid.values).size
        for method in (_grid_search(grid, yardstick), *other_methods(grid, all_series)):
            row = {
                "dataset": grid.config.data.dataset,
                "settings": grid.description,
                "fid_features": grid.config.metrics.fid_features,
            }
            rows.append(row | _row(method, yardstick))
    return pd.DataFrame(rows, dtype=object)


def _row(method: Method, yardstick: int | None) -> dict[str, object]:
    size = mean(method.sizes_found)
    return {
        "method": method.name,
        "init_dim": method.init_dim,
        "sizes": format_sizes(method.sizes, method.found),
        "size_mean": size,
        "yardstick": yardstick,
        "error": None if size is None or yardstick is None else round(size - yardstick, 4),
        "size_deviation": deviation(method.sizes_found),
        "found": f"{sum(method.found)} of {len(method.found)}" if method.found else None,
        **method.cost,
    }


def _grid_search(grid: Grid, yardstick: int | None) -> Method:
    sizes = () if yardstick is None else (yardstick,)
    return Method("grid search", None, sizes, tuple(True for _ in sizes), cost(grid.points))


def other_methods(grid: Grid, all_series: Sequence[Series]) -> Iterator[Method]:
    """Yield the answers of methods other than `grid` itself: two read off its largest models, and the adaptive runs."""
    largest = grid.points[-1]
    size = largest.config.model.init_dim
    active = [int(units) for units in largest.final("active_units")]
    used = [size - int(passive) for passive in largest.final("dims_passive")]
    for name, sizes in (("active units", active), ("FONDUE idea", used)):
        yield Method(name, size, tuple(sizes), tuple(found < size for found in sizes), cost([largest]))
    rules = (_rule(grid, series) for series in all_series if grid.answers_for(series))
    yield from sorted(rules, key=lambda method: (method.name, method.init_dim))


def _rule(grid: Grid, series: Series) -> Method:
    shared = differences(grid.config)
    own = [setting for setting in differences(series.config) if setting not in shared]
    name = ", ".join([f"rule {series.config.rule}", *own])
    return Method(name, series.config.model.init_dim, series.sizes, series.stopped, cost([series], until_stop=True))
