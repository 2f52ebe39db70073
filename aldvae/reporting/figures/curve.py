"""Figures of curves: what fewer dimensions cost, with the grid search of the same models drawn over it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aldvae.analysis.curve import comparable_grid, curve_table, grid_means
from aldvae.analysis.grid_search import Grid, find_grids
from aldvae.analysis.series import Series, describe
from aldvae.metrics.table import LOSS, METRICS, Metric
from aldvae.reporting.figures.style import (
    BLUE,
    COLUMN,
    ORANGE,
    PANEL,
    RED,
    SMALL,
    metric_label,
    print_style,
    slug,
    wrap,
)
from aldvae.runs.results import Result, read_result
from aldvae.utils.files import write_figure

_METRICS = (LOSS, *(METRICS[name] for name in ("recon_loss", "fid_recon", "fid_gen", "silhouette")))
# Inches: the height of title, legend and axis label.
_REST = 0.9


def draw_curves(all_series: Sequence[Series]) -> dict[str, Figure]:
    """Draw the curves of each series that has any, by figure name."""
    grids, figures = find_grids(all_series), dict[str, Figure]()
    for series in all_series:
        results = [result for result in series.results if not result.curve.empty]
        if results:
            start = f"from {series.config.model.init_dim}"
            label = ", ".join(part for part in (series.config.data.dataset, start, describe(series.config)) if part)
            figures[f"curve{slug(label)}"] = draw_curve(results, comparable_grid(series, grids), label)
    return figures


def draw_curve_of_run(path: Path) -> Path | None:
    """Draw the curve of the finished run in the directory `path` as ``curve.png`` there; None if it has no curve."""
    result = read_result(path)
    if result is None or result.summary is None or result.curve.empty:
        return None
    with print_style():
        return write_figure(draw_curve([result]), path / "curve.png", dpi=200)


def draw_curve(results: Sequence[Result], grid: Grid | None = None, title: str = "") -> Figure:
    """Draw metrics over latent size, a panel for each that was measured: the curves of `results`, one for each seed.

    The size found is a dot, and the model that the run keeps, if it favours another, a ring. The means of `grid` are
    drawn over the curves, with one dot per size. At least one result is needed, and each must have a curve.
    """
    measured = [metric for metric in _METRICS if any(_values(result, metric).notna().any() for result in results)]
    figure = Figure(figsize=(COLUMN, PANEL * len(measured) + _REST), layout="constrained")
    axes = figure.subplots(len(measured), 1, sharex=True, squeeze=False)[:, 0]
    for axis, metric in zip(axes, measured, strict=True):
        for result in results:
            _draw_run(axis, result, metric)
        if grid is not None:
            _draw_grid(axis, grid, metric, results)
        axis.set_ylabel(metric_label(metric, results[0].config.metrics.fid_features))
    axes[-1].set_xlabel("latent size")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_title(wrap(title, COLUMN), fontsize=SMALL)
    # Several seeds share one entry.
    handles, labels = axes[0].get_legend_handles_labels()
    entries = dict(zip(labels, handles, strict=True))
    figure.legend(list(entries.values()), list(entries), loc="outside upper center", ncols=2)
    return figure


def _values(result: Result, metric: Metric) -> pd.Series[float]:
    return curve_table(result)[metric.name]


def _draw_run(axis: Axes, result: Result, metric: Metric) -> None:
    values = _values(result, metric)
    kept, found = result.answer["latent_dim"], values.index.max()
    axis.plot(values.index, values, color=BLUE, marker=".", markersize=3, linewidth=0.8, label="curve")
    axis.plot(found, values[found], "o", color=RED, markersize=4, label="size found")
    if kept != found:
        axis.plot(kept, values[kept], "o", color=RED, fillstyle="none", markersize=6, label="model kept")


def _draw_grid(axis: Axes, grid: Grid, metric: Metric, results: Sequence[Result]) -> None:
    """Draw the means over seeds of a grid, up to its first size that is not below the largest of the curves."""
    largest = max(int(result.curve["latent_dim"].max()) for result in results)
    last = min((size for size in grid.sizes if size >= largest), default=largest)
    means = {size: v for size, v in grid_means(grid, metric.name, results[0].config).items() if size <= last}
    axis.plot(list(means), list(means.values()), "x", color=ORANGE, markersize=4, label="models of fixed size")
