"""Figures of the latent space in two dimensions, coloured by class and by cluster."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aldvae.analysis.series import Series
from aldvae.reporting.figures.style import PAGE
from aldvae.runs.results import Result


def example_runs(all_series: Sequence[Series]) -> list[Result]:
    """Return a run of each dataset to look at.

    It is the first run that recorded its latent space, of the series that comes first in this order: adaptive runs that
    obeyed their rule, other adaptive runs, models of fixed size; among these, the largest initial size.
    """
    examples: dict[tuple[str, str | None], Result] = {}
    order = sorted(all_series, key=lambda s: (s.config.rule is None, not s.finds_size, -s.config.model.init_dim))
    for series in order:
        first = series.results[0]
        if not first.latent_space.empty:
            examples.setdefault((first.config.data.dataset, first.config.data.source), first)
    return list(examples.values())


def draw_latent_spaces(all_series: Sequence[Series]) -> dict[str, Figure]:
    """Draw the latent spaces of `example_runs`, by figure name."""
    return {f"latent_space-{_slug(result)}": draw_latent_space(result) for result in example_runs(all_series)}


def _slug(result: Result) -> str:
    source = f"-{result.config.data.source[:6]}" if result.config.data.source else ""
    return result.config.data.dataset.replace(".", "-") + source


def draw_latent_space(result: Result) -> Figure:
    """Draw the posterior means of a finished run, projected on their two leading principal components."""
    points = result.latent_space
    known = [name for name in ("class", "cluster") if points[name].notna().all()]
    groupings: list[str | None] = [*known] or [None]
    figure = Figure(figsize=(PAGE, 3.4), layout="constrained")
    axes = figure.subplots(1, len(groupings), squeeze=False)[0]
    for axis, name in zip(axes, groupings, strict=True):
        _scatter(axis, points, name)
    config = result.config
    size = result.answer["latent_dim"]
    figure.suptitle(f"{config.data.dataset}, {config.kind}, size {size}, seed {config.training.seed}")
    return figure


def _scatter(axis: Axes, points: pd.DataFrame, name: str | None) -> None:
    """Draw the points with the numbers of their groups, or as dots if `name` is None: without classes and clusters."""
    if name is None:
        axis.scatter(points["component_1"], points["component_2"], s=6)
    else:
        for value in sorted(points[name].unique()):
            group = points[points[name] == value]
            axis.scatter(group["component_1"], group["component_2"], s=12, marker=f"${value:.0f}$", linewidths=0.2)
        axis.set_title(f"by {name}" if name == "class" else "by K-means cluster")
    axis.set_xlabel("first principal component of the posterior means")
    axis.set_ylabel("second")
