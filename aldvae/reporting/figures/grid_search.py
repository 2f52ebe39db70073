"""Figures of grid searches: quality over latent size, the yardstick, and the answer of each method."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from aldvae.analysis.comparison import Method, other_methods
from aldvae.analysis.grid_search import Grid, Yardstick, find_grids, find_yardstick
from aldvae.analysis.series import Series, fixed_size_config, sweep_command
from aldvae.config.presets import SEEDS
from aldvae.metrics.criterion import Criterion
from aldvae.metrics.table import LOSS, METRICS
from aldvae.reporting.figures.style import (
    BLUE,
    COLUMN,
    LINES,
    ORANGE,
    PANEL,
    RED,
    SMALL,
    DotRows,
    FigureSet,
    fid_axis,
    metric_label,
    slug,
    wrap,
)

# Inches: the width of the methods' names, and the height of all but the panels and the rows.
_NAME_WIDTH, _REST = 0.95, 0.9
# Sizes get a number on the axis if they are at least this factor apart.
_LABEL_FACTOR = 1.15


def draw_yardsticks(all_series: Sequence[Series]) -> FigureSet:
    """Draw a figure for each grid search with enough seeds for standard errors.

    Adaptive runs without such a grid are reported as missing, with the command that makes it.
    """
    drawn, drawn_grids = FigureSet(), list[Grid]()
    for grid in find_grids(all_series):
        yardstick = find_yardstick(grid.values)
        if yardstick.criteria:
            drawn_grids.append(grid)
            label = ", ".join(part for part in (grid.config.data.dataset, grid.description) if part)
            methods = list(other_methods(grid, all_series))
            drawn.figures[f"yardstick{slug(label)}"] = _draw(grid, yardstick, methods, label)
    searches = [series for series in all_series if series.finds_size]
    configs = [s.config for s in searches if not any(grid.answers_for(s) for grid in drawn_grids)]
    commands = [sweep_command(fixed_size_config(config, config.model.init_dim), "grid", SEEDS) for config in configs]
    drawn.missing += [f"A yardstick needs a grid: {command}" for command in dict.fromkeys(commands)]
    return drawn


def _draw(grid: Grid, yardstick: Yardstick, methods: Sequence[Method], label: str) -> Figure:
    rows = DotRows([f"{method.name}, from {method.init_dim}" for method in methods], _NAME_WIDTH)
    heights = [PANEL] * len(yardstick.criteria) + [rows.height]
    figure = Figure(figsize=(COLUMN, sum(heights) + _REST), layout="constrained")
    axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    for axis, (name, criterion) in zip(axes, yardstick.criteria.items(), strict=False):
        metric = METRICS.get(name, LOSS)
        _criterion(axis, criterion)
        axis.set_ylabel(metric_label(metric, grid.config.metrics.fid_features))
        if metric.frechet_of:
            fid_axis(axis)
    _answers(axes[-1], methods, rows)
    if yardstick.size is not None:
        for axis in axes:
            axis.axvline(yardstick.size, color=RED, linewidth=0.8, zorder=0, label=f"yardstick: {yardstick.size}")
    _size_axis(axes[-1], grid.sizes)
    axes[0].set_title(wrap(label, COLUMN), fontsize=SMALL)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def _criterion(axis: Axes, criterion: Criterion) -> None:
    sizes = sorted(criterion.means)
    means, errors = ([values[size] for size in sizes] for values in (criterion.means, criterion.errors))
    axis.errorbar(sizes, means, errors, color=BLUE, marker="o", markersize=2.5, capsize=2, label="mean, standard error")
    axis.axhline(criterion.limit, color=ORANGE, linestyle="--", linewidth=0.8, label="best + standard error")


def _answers(axis: Axes, methods: Sequence[Method], rows: DotRows) -> None:
    for row, method in enumerate(methods):
        colour, _ = LINES[row % len(LINES)]
        for size, found in zip(method.sizes, method.found, strict=True):
            rows.mark(axis, row, size, colour, found)
    rows.label(axis)
    axis.set_xlabel("latent size")


def _size_axis(axis: Axes, sizes: Sequence[int]) -> None:
    """Make the shared axis logarithmic, with a tick at each size, and a number where there is room for it."""
    axis.set_xscale("log")
    labelled: list[int] = []
    for size in sizes:
        if not labelled or size >= labelled[-1] * _LABEL_FACTOR:
            labelled.append(size)
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks(sizes, [str(size) if size in labelled else "" for size in sizes])
