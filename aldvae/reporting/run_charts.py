"""The charts of a report: the curve of runs, their course over the epochs, and the latent space."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import matplotlib as mpl
import numpy as np
import pandas as pd
from PIL import Image

from aldvae.analysis.course import informative_counts, informative_limit, kl_table, kl_weights, losses
from aldvae.analysis.curve import comparable_grid, curve_table, grid_means
from aldvae.analysis.grid_search import Grid
from aldvae.analysis.series import Series
from aldvae.metrics.table import LOSS, METRICS, Metric
from aldvae.reporting.charts import Chart, Group, Line, Scatter, format_number
from aldvae.runs.results import Result

_CURVE = (LOSS, *(METRICS[name] for name in ("recon_loss", "fid_recon", "fid_gen", "silhouette")))
Values: TypeAlias = "pd.Series[float] | pd.Series[int]"
# Of longer runs, so many epochs are drawn: more cannot be told apart, and make the page large.
_MOST_EPOCHS = 200
# The part of the epochs before which losses are so high that they would flatten the rest.
_SETTLED = 0.05
# Below this (nats), all KL divergences have one colour.
_DARKEST = 1e-3


def curve_charts(series: Series, grids: Sequence[Grid]) -> list[Chart]:
    """Return a chart of each measured metric over latent size, the loss first; none for runs without curves.

    There is a line per seed. The size found is a dot, and so are the means of a comparable grid search. One size alone,
    of runs that found the smallest, makes no chart.
    """
    results = [result for result in series.results if not result.curve.empty]
    tables, grid = [curve_table(result) for result in results], comparable_grid(series, grids)
    if grid is None and len({size for table in tables for size in table.index}) < 2:
        return []
    return [
        _curve_chart(metric, results, tables, grid)
        for metric in _CURVE
        if any(table[metric.name].notna().any() for table in tables)
    ]


def _curve_chart(metric: Metric, results: Sequence[Result], tables: Sequence[pd.DataFrame], grid: Grid | None) -> Chart:
    lines, config = list[Line](), results[0].config
    for result, table in zip(results, tables, strict=True):
        values, seed = table[metric.name].dropna(), _seed(result, results)
        found, kept = int(table.index.max()), result.answer["latent_dim"]
        lines.append(_line("curve", values, seed=seed, dots=True))
        lines.append(_dots("size found", values[values.index == found], "c1", seed))
        if kept != found:
            lines.append(_dots("model kept", values[values.index == kept], "c2", seed))
    if grid is not None:
        largest = max(int(table.index.max()) for table in tables)
        last = min((size for size in grid.sizes if size >= largest), default=largest)
        means = {size: value for size, value in grid_means(grid, metric.name, config).items() if size <= last}
        lines.append(_dots("models of fixed size", pd.Series(means, dtype=float), "c3"))
    return Chart(
        title=_title(metric, config.metrics.fid_features),
        x_label="latent size",
        y_label=metric.unit,
        lines=[line for line in lines if len(line.x)],
    )


def _title(metric: Metric, features: str) -> str:
    return f"{metric.title} ({features} features)" if metric.frechet_of else f"{metric.title} by latent size"


def course_charts(series: Series) -> list[Chart]:
    """Return the charts of size, loss and KL divergences over epochs; in shade the warm-up of their weight.

    A chart without values is left out.
    """
    charts = [_size_chart(series.results), _loss_chart(series.results)]
    if not series.results[0].latent.empty:
        charts.append(_kl_chart(series.results[0]))
    return [chart for chart in charts if any(not line.hidden or chart.picture for line in chart.lines)]


def _size_chart(results: Sequence[Result]) -> Chart:
    lines = list[Line]()
    for result in results:
        seed = _seed(result, results)
        sizes, counts = result.metrics.set_index("epoch")["latent_dim"], informative_counts(result)
        lines.append(_line("latent size", _thinned(sizes), seed=seed, steps=True))
        if not counts.empty:
            lines.append(_line("carry information", _thinned(counts), "c1", seed=seed))
    return replace(_over_epochs("Latent size", lines, results[0]), y_label="dimensions", from_zero=True)


def _loss_chart(results: Sequence[Result]) -> Chart:
    lines = list[Line]()
    for result in results:
        seed, train = _seed(result, results), result.metrics.set_index("epoch")["train_loss"].dropna()
        lines.append(_line("training", _thinned(train), "c2", seed=seed))
        lines.append(_line("validation", _thinned(losses(result)), seed=seed))
    return replace(_over_epochs("Loss", lines, results[0]), settled=_SETTLED * results[0].config.training.epochs)


def _kl_chart(result: Result) -> Chart:
    """Return a picture with a row per dimension, the longest kept at the bottom, and a column per epoch."""
    table = kl_table(result.latent)
    table = table.loc[:, _thinned(table.count()).index]
    epochs, limit = [int(epoch) for epoch in table.columns], informative_limit(result)
    told = {
        f"dimensions with {format_number(limit)} nats or more": (table >= limit).sum(),
        "largest (nats)": table.max(),
        "smallest (nats)": table.min(),
    }
    lines = [Line(label=label, x=epochs, y=values.tolist(), hidden=True) for label, values in told.items()]
    largest = float(np.nanmax(table.to_numpy()))
    return Chart(
        title="KL divergence of each dimension",
        x_label="epoch",
        y_label="dimensions, longest kept first",
        lines=lines,
        picture=_heatmap(table.to_numpy()),
        picture_range=(epochs[0] - 0.5, epochs[-1] + 0.5, 0.0, float(len(table))),
        note=f"dark: {_DARKEST:g} nats or less; bright: {format_number(largest)} nats; empty: removed",
    )


def _heatmap(values: np.ndarray) -> str:
    """Return a PNG as URI, a pixel for each of the KL divergences (rows from the bottom), without colour for NaN."""
    scaled = np.log10(np.maximum(values, _DARKEST))
    scaled = (scaled - np.log10(_DARKEST)) / max(float(np.nanmax(scaled)) - np.log10(_DARKEST), 1e-9)
    pixels = mpl.colormaps["viridis"](np.ma.masked_invalid(scaled), bytes=True)
    pixels[np.isnan(values)] = 0
    content = io.BytesIO()
    Image.fromarray(pixels[::-1]).save(content, "PNG", optimize=True)
    return uri(content.getvalue(), "image/png")


def latent_space_charts(result: Result) -> list[Scatter]:
    """Return the posterior means on their leading principal components, by class and by cluster if there are any."""
    points, charts = result.latent_space, list[Scatter]()
    names = {"class": "Latent space, by class", "cluster": "Latent space, by K-means cluster"}
    there = {name: title for name, title in names.items() if points[name].notna().all()}
    for name, title in (there or {"": "Latent space"}).items():
        values = sorted(points[name].unique()) if name else [""]
        groups = [
            Group(
                name=f"{value:g}" if name else "",
                colour=f"c{number % 10}",
                x=(part := points[points[name] == value] if name else points)["component_1"].tolist(),
                y=part["component_2"].tolist(),
            )
            for number, value in enumerate(values)
        ]
        charts.append(Scatter(title=title, x_label="first principal component", y_label="second", groups=groups))
    return charts


def _over_epochs(title: str, lines: Sequence[Line], result: Result) -> Chart:
    """Return a chart of losses over epochs, which tells the weight of the KL divergence during the warm-up."""
    training, weights = result.config.training, kl_weights(result)
    if not weights.empty:
        lines = [*lines, replace(_line("weight of the KL divergence", _thinned(weights)), hidden=True)]
    return Chart(
        title=title,
        x_label="epoch",
        y_label="nats per sample",
        lines=[line for line in lines if len(line.x)],
        shaded=training.warmup * training.epochs if training.warmup else None,
        shade_label=f"KL warm-up: its weight rises to {result.config.model.beta:g}",
    )


def _line(
    label: str, values: Values, colour: str = "c0", *, seed: str = "", steps: bool = False, dots: bool = False
) -> Line:
    known = values.dropna()
    x, y = [float(x) for x in known.index], [float(y) for y in known]
    return Line(label=label + seed, group=label, x=x, y=y, colour=colour, steps=steps, dots=dots)


def _dots(label: str, values: Values, colour: str, seed: str = "") -> Line:
    return replace(_line(label, values, colour, seed=seed, dots=True), joined=False)


def _thinned(values: Values) -> Values:
    """Return at most about `_MOST_EPOCHS` of the values, evenly, the last among them."""
    every = max(1, -(-len(values) // _MOST_EPOCHS))
    return values.iloc[::-1].iloc[::every].iloc[::-1]


def _seed(result: Result, results: Sequence[Result]) -> str:
    return f", seed {result.config.training.seed}" if len(results) > 1 else ""


def uri(content: bytes, kind: str) -> str:
    """Return a file as the address of itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
