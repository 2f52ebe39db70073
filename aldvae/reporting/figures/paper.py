"""The paper's Figures 2, 3 and 4, from the finished runs that there are."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from statistics import fmean, stdev

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aldvae.analysis.series import (
    GroupKey,
    Series,
    differences,
    group_key,
    largest_start,
    matching_configs,
    pair_with_fixed,
    protocol_of,
    sweep_command,
)
from aldvae.config.presets import PAPER
from aldvae.config.run_config import DEFAULTS, METRICS_SETTINGS
from aldvae.metrics.table import METRICS
from aldvae.reporting.figures.style import (
    BLUE,
    COLUMN,
    LINES,
    ORANGE,
    PAGE,
    PANEL,
    RED,
    SMALL,
    FigureSet,
    fid_axis,
    metric_label,
    slug,
    wrap,
)

ROWS = sorted((m for m in METRICS.values() if m.paper_row is not None), key=attrgetter("paper_row"))
_MOST_LABELS = 8
# The height of a line of a legend, as a fraction of a panel's.
_LEGEND_LINE = 0.1


@dataclass
class Column:
    """The part of a figure that one dataset takes: a panel for each metric of `ROWS`.

    `draw` draws the metric of a name into a panel; `upper` adds an upper axis to the top panel. `features` are those
    behind the Fréchet distances.
    """

    title: str
    features: str
    draw: Callable[[Axes, str], None]
    upper: Callable[[Axes], None] | None = None
    legend_title: str = ""


# Settings that datasets of one figure need not share.
_OF_COLUMN = ("source", "limit", "validation", "clusters", "epochs", "batch_size", "precision", *METRICS_SETTINGS)

Columns = Iterable[tuple[Series, Column]]


def draw_paper(all_series: Sequence[Series]) -> FigureSet:
    """Draw each of the paper's figures once for all runs that have the same rule and settings."""
    drawn = FigureSet()
    adaptive = [series for series in all_series if series.config.compression is not None]
    if not adaptive:
        drawn.missing.append("no finished adaptive run: make one with aldvae adaptive, or aldvae seeds")
    for name, make_columns in (("figure2", _figure2), ("figure3", _figure3), ("figure4", _figure4)):
        by_label: dict[str, list[Column]] = {}
        for series, column in make_columns(adaptive, all_series, drawn.missing):
            by_label.setdefault(_label(series), []).append(column)
        for label, columns in by_label.items():
            drawn.figures[name + slug(label)] = _layout(columns, label)
    return drawn


def _label(series: Series) -> str:
    """Return what all columns of a figure share: a protocol, or a rule, and the model."""
    config, protocol = series.config, protocol_of(series.config)
    name = f"rule {config.rule}" if config.rule != DEFAULTS["rule"] else ""
    parts = [name if protocol == PAPER else f"protocol {protocol}", *differences(config, _OF_COLUMN, protocol)]
    return ", ".join(part for part in parts if part)


def _title(series: Series) -> str:
    """Return the dataset of a column, and how much it was trained and measured if not as its protocol says."""
    config = series.config
    others = set(config.settings) - set(_OF_COLUMN) | {"fid_features"}
    return ", ".join([config.data.dataset, *differences(config, others, protocol_of(config))])


def _figure2(adaptive: Sequence[Series], _: Sequence[Series], missing: list[str]) -> Columns:
    """Runs that shrink to the smallest size, marked where the rule would have stopped."""
    unstopped = [series for series in adaptive if not series.finds_size]
    there = {group_key(series.config, "seed", "stop") for series in unstopped}
    stopped = [s for s in adaptive if s.finds_size and s.config.supports_no_stop]
    for series in largest_start(stopped):
        if group_key(series.config, "seed", "stop") not in there:
            command = series.config.override(stop=False, seed=series.seeds[0]).command
            missing.append(f"Figure 2 needs a run without stop: {command}")
    for series in largest_start(unstopped):
        features = series.config.metrics.fid_features
        yield series, Column(_title(series), features, partial(_unstopped, series), partial(_sizes, series))


def _unstopped(series: Series, axis: Axes, metric: str) -> None:
    _curve(axis, series.column(metric), BLUE, "-", _seeds(series))
    _stops(axis, series)


def _figure3(adaptive: Sequence[Series], all_series: Sequence[Series], missing: list[str]) -> Columns:
    """The adaptive model, and a model that had the size found from the start."""
    for series in largest_start([series for series in adaptive if series.finds_size]):
        pair = pair_with_fixed(series, all_series)
        there = {run.config for run in pair[1].results} if pair else set()
        absent = [config for config in matching_configs(series) if config not in there]
        missing += [f"Figure 3 needs a model of the size found: {config.command}" for config in absent]
        if pair:
            title = f"{_title(series)}, final size {', '.join(map(str, pair[0].sizes))}"
            draw = partial(_adaptive_and_fixed, *pair)
            yield series, Column(title, series.config.metrics.fid_features, draw, None, _seeds(pair[0]))


def _adaptive_and_fixed(adaptive: Series, fixed: Series, axis: Axes, metric: str) -> None:
    _curve(axis, fixed.column(metric), BLUE, "-", "fixed size")
    _curve(axis, adaptive.column(metric), ORANGE, "--", "adaptive")


def _figure4(adaptive: Sequence[Series], _: Sequence[Series], missing: list[str]) -> Columns:
    """The same rule from several initial sizes."""
    groups: dict[GroupKey, list[Series]] = {}
    for series in adaptive:
        if series.finds_size:
            groups.setdefault(group_key(series.config, "seed", "init_dim"), []).append(series)
    for group in groups.values():
        group.sort(key=lambda series: -series.config.model.init_dim)
        first = group[0]
        if len(group) > 1:
            draw = partial(_initial_sizes, group)
            yield first, Column(_title(first), first.config.metrics.fid_features, draw, None, _seeds(first))
        else:
            command = sweep_command(first.config, "sweep-init", first.seeds)
            missing.append(f"Figure 4 needs several initial sizes: {command}")


def _initial_sizes(group: Sequence[Series], axis: Axes, metric: str) -> None:
    for number, series in enumerate(group):
        colour, line = LINES[number % len(LINES)]
        stopped = "" if any(series.stopped) else ", no stop"
        label = f"ALD_{number + 1} (Dim={size_text(series.sizes)}), from {series.config.model.init_dim}{stopped}"
        _curve(axis, series.column(metric), colour, line, label)


def _seeds(series: Series) -> str:
    seeds = series.seeds
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"mean and deviation of {len(seeds)} seeds"


def size_text(sizes: Sequence[int]) -> str:
    """Return one size as it is, and several as their mean and standard deviation."""
    return str(sizes[0]) if len(sizes) == 1 else f"{fmean(sizes):.1f}±{stdev(sizes):.1f}"


def _layout(columns: Sequence[Column], label: str) -> Figure:
    width = COLUMN if len(columns) == 1 else PAGE
    figure = Figure(figsize=(width, PANEL * len(ROWS) + 0.5), layout="constrained")
    axes = figure.subplots(len(ROWS), len(columns), squeeze=False, sharex="col")
    for number, column in enumerate(columns):
        for row, metric in enumerate(ROWS):
            axis = axes[row, number]
            column.draw(axis, metric.name)
            if metric.frechet_of and axis.lines:
                fid_axis(axis)
            if number == 0 or column.features != columns[0].features:
                axis.set_ylabel(metric_label(metric, column.features))
        top, bottom = axes[0, number], axes[-1, number]
        top.set_title(textwrap.fill(column.title, 40))
        bottom.set_xlabel("epoch")
        first = next((axis for axis in axes[:, number] if axis.get_legend_handles_labels()[0]), None)
        if first is not None:
            _legend(first, column.legend_title)
        if column.upper is not None:
            column.upper(top)
    if label:
        figure.suptitle(wrap(label, width), fontsize=SMALL)
    return figure


def _legend(axis: Axes, title: str) -> None:
    """Put the legend at the top of a panel, and raise the upper end of the y axis so that it hides no curve."""
    legend = axis.legend(title=title or None, title_fontsize=SMALL, loc="upper right")
    height = _LEGEND_LINE * (len(legend.get_texts()) + bool(title))
    low, high = axis.transData.inverted().transform(axis.transAxes.transform([(0, 0), (0, 1 / (1 - height))]))[:, 1]
    axis.set_ylim(low, high)


def _curve(axis: Axes, values: pd.DataFrame, colour: str, line: str, label: str) -> None:
    """Draw the mean over seeds, with a band of one standard deviation if there are several."""
    values = values.dropna(how="all")
    if values.empty:
        axis.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axis.transAxes)
        return
    mean = values.mean(axis=1)
    axis.plot(mean.index, mean, color=colour, linestyle=line, label=label)
    if values.shape[1] > 1:
        deviation = values.std(axis=1)
        axis.fill_between(mean.index, mean - deviation, mean + deviation, color=colour, alpha=0.2, linewidth=0)


def _stops(axis: Axes, series: Series) -> None:
    epochs = series.epochs_found
    for number, epoch in enumerate(epochs):
        label = f"the rule stops ({len(epochs)} of {len(series.seeds)})" if number == 0 else None
        axis.axvline(epoch, color=RED, linewidth=0.8, label=label)
    if not epochs:
        axis.plot([], [], color=RED, label="the rule never stops")


def _sizes(series: Series, axis: Axes) -> None:
    """Show the latent size (mean over seeds) on an upper axis: a tick at each change, and a label at some."""
    sizes = series.column("latent_dim").mean(axis=1)
    changes = sizes.index[sizes.diff() != 0].tolist()
    positions = np.unique(np.linspace(0, len(changes) - 1, _MOST_LABELS).round().astype(int))
    labelled = [changes[position] for position in positions]
    upper = axis.secondary_xaxis("top")
    upper.set_xticks(changes, minor=True)
    upper.set_xticks(labelled, [f"{sizes[epoch]:.0f}" for epoch in labelled])
    upper.set_xlabel("latent size")
