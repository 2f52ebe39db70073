"""Grid searches: quality over latent size, the smallest size as good as the best, and what each method finds."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from aldvae.analysis.comparison import Method, other_methods
from aldvae.analysis.grid_search import Criterion, Grid, Yardstick, find_yardstick, grids
from aldvae.analysis.series import Series, fixed, sweep_command
from aldvae.config.presets import SEEDS
from aldvae.metrics.table import LOSS, METRICS
from aldvae.reporting.figures.style import (
    BLUE,
    COLUMN,
    LINES,
    ORANGE,
    PANEL,
    RED,
    SMALL,
    Drawn,
    Rows,
    fid_axis,
    metric_label,
    slug,
    wrapped,
)

# Inches: the width of a method's name, and all that is neither a panel nor a name.
_NAME, _REST = 0.95, 0.9
# Two sizes nearer than this factor have no room for both numbers under the axis.
_APART = 1.15


def draw_yardsticks(series: Sequence[Series]) -> Drawn:
    """Draw a figure for each grid search that has seeds enough for standard errors."""
    drawn, found = Drawn(), list[Grid]()
    for grid in grids(series):
        yardstick = find_yardstick(grid.values)
        if yardstick.criteria:
            found.append(grid)
            label = ", ".join(part for part in (grid.config.dataset, grid.settings) if part)
            drawn.figures[f"yardstick{slug(label)}"] = _draw(grid, yardstick, list(other_methods(grid, series)), label)
    wanting = [one for one in series if one.config.kind == "adaptive" and one.config.stop]
    configs = [one.config for one in wanting if not any(grid.fits(one) for grid in found)]
    commands = [sweep_command(fixed(config, config.init_dim), "grid", SEEDS) for config in configs]
    drawn.missing += [f"A yardstick needs a grid: {command}" for command in dict.fromkeys(commands)]
    return drawn


def _draw(grid: Grid, yardstick: Yardstick, methods: Sequence[Method], label: str) -> Figure:
    rows = Rows([f"{method.name}, from {method.init_dim}" for method in methods], _NAME)
    heights = [PANEL] * len(yardstick.criteria) + [rows.height]
    figure = Figure(figsize=(COLUMN, sum(heights) + _REST), layout="constrained")
    axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    for axis, (name, criterion) in zip(axes, yardstick.criteria.items(), strict=False):
        _criterion(axis, criterion)
        metric = METRICS.get(name, LOSS)
        axis.set_ylabel(metric_label(metric, grid.config.fid_features))
        if metric.frechet_of:
            fid_axis(axis)
    _answers(axes[-1], methods, rows)
    if yardstick.size is not None:
        for axis in axes:
            axis.axvline(yardstick.size, color=RED, linewidth=0.8, zorder=0, label=f"yardstick: {yardstick.size}")
    _size_axis(axes[-1], grid.sizes)
    axes[0].set_title(wrapped(label, COLUMN), fontsize=SMALL)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def _criterion(axis: Axes, criterion: Criterion) -> None:
    sizes = sorted(criterion.means)
    means, errors = ([of[size] for size in sizes] for of in (criterion.means, criterion.errors))
    axis.errorbar(sizes, means, errors, color=BLUE, marker="o", markersize=2.5, capsize=2, label="mean, standard error")
    axis.axhline(criterion.limit, color=ORANGE, linestyle="--", linewidth=0.8, label="best + standard error")


def _answers(axis: Axes, methods: Sequence[Method], rows: Rows) -> None:
    for number, method in enumerate(methods):
        colour, _ = LINES[number % len(LINES)]
        for size, found in zip(method.sizes, method.found, strict=True):
            rows.mark(axis, number, size, colour, found)
    rows.label(axis)
    axis.set_xlabel("latent size")


def _size_axis(axis: Axes, sizes: Sequence[int]) -> None:
    """Make the shared axis logarithmic, with a tick at each size and a number where there is room."""
    axis.set_xscale("log")
    labelled: list[int] = []
    for size in sizes:
        if not labelled or size >= labelled[-1] * _APART:
            labelled.append(size)
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks(sizes, [str(size) if size in labelled else "" for size in sizes])
