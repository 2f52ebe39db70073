"""What differences in settings change: the size each variant of an adaptive run ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from aldvae.analysis.ablation import variants
from aldvae.analysis.series import Series
from aldvae.reporting.figures.style import BLUE, PAGE, Drawn, Rows, slug

# Inches: the width of a variant's name, and all that is no name.
_NAME, _REST = 2.2, 0.6


def draw_variants(series: Sequence[Series]) -> Drawn:
    """Draw a figure for each dataset and initial size of which there are several variants."""
    drawn = Drawn()
    for group in variants(series):
        first = next(iter(group.values())).config
        label = f"{first.dataset}, from {first.init_dim}" + (f", data {first.source[:6]}" if first.source else "")
        drawn.figures[f"variants{slug(label)}"] = _draw(group, label)
    return drawn


def _draw(group: Mapping[str, Series], label: str) -> Figure:
    rows = Rows(list(group), _NAME)
    figure = Figure(figsize=(PAGE, rows.height + _REST), layout="constrained")
    axis = figure.subplots()
    for number, one in enumerate(group.values()):
        for size, stop in zip(one.sizes, one.stops, strict=True):
            rows.mark(axis, number, size, BLUE, stop is not None)
            told = "no stop" if stop is None else f"epoch {stop}"
            place = (size, rows.places[number])
            axis.annotate(told, place, xytext=(5, 0), textcoords="offset points", va="center")
    rows.label(axis)
    axis.set_xlim(0, axis.get_xlim()[1] * 1.1)
    axis.set_xlabel("latent size in the end (filled: found; hollow: reached without a stop)")
    axis.set_title(label)
    return figure
