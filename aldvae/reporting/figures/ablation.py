"""Figures of ablations: the final size of each series of adaptive runs that differ in their settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from aldvae.analysis.ablation import find_ablations
from aldvae.analysis.series import Series
from aldvae.reporting.figures.style import BLUE, PAGE, DotRows, FigureSet, slug

# Inches: the width of the names, and the height of all but the rows.
_NAME_WIDTH, _REST = 2.2, 0.6


def draw_ablations(all_series: Sequence[Series]) -> FigureSet:
    """Draw a figure for each dataset and initial size with several series that differ in their settings."""
    drawn = FigureSet()
    for group in find_ablations(all_series):
        first = next(iter(group.values())).config
        label = f"{first.data.dataset}, from {first.model.init_dim}" + (
            f", data {first.data.source[:6]}" if first.data.source else ""
        )
        drawn.figures[f"variants{slug(label)}"] = _draw(group, label)
    return drawn


def _draw(group: Mapping[str, Series], label: str) -> Figure:
    rows = DotRows(list(group), _NAME_WIDTH)
    figure = Figure(figsize=(PAGE, rows.height + _REST), layout="constrained")
    axis = figure.subplots()
    for row, series in enumerate(group.values()):
        for size, epoch in zip(series.sizes, series.stop_epochs, strict=True):
            rows.mark(axis, row, size, BLUE, epoch is not None)
            text = "no stop" if epoch is None else f"epoch {epoch}"
            axis.annotate(text, (size, rows.places[row]), xytext=(5, 0), textcoords="offset points", va="center")
    rows.label(axis)
    axis.set_xlim(0, axis.get_xlim()[1] * 1.1)
    axis.set_xlabel("latent size in the end (filled: found; hollow: reached without a stop)")
    axis.set_title(label)
    return figure
