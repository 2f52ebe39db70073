"""The paper's Figures 2, 3 and 4 from whatever finished runs there are."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aldvae.analysis.series import Series, first_start, fixed, key, sweep_command, variant
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
    Drawn,
    fid_axis,
    metric_label,
    slug,
    wrapped,
)

ROWS = sorted((m for m in METRICS.values() if m.paper_row is not None), key=attrgetter("paper_row"))
_MOST_LABELS = 8
# A line of a legend as a share of a panel.
_LEGEND_LINE = 0.1
Draw = Callable[[Axes, str], None]


@dataclass
class Column:
    """One dataset's part of a figure: what draws a metric into a panel."""

    title: str
    features: str
    draw: Draw
    upper: Callable[[Axes], None] | None = None
    legend_title: str = ""


def draw_paper(series: Sequence[Series]) -> Drawn:
    """Draw each of the paper's figures once for every variant of the settings that has runs for it."""
    drawn = Drawn()
    adaptive = [one for one in series if one.config.kind == "adaptive"]
    if not adaptive:
        drawn.missing.append("no finished adaptive run: make one with aldvae adaptive, or aldvae seeds")
    for name, columns in (("figure2", _figure2), ("figure3", _figure3), ("figure4", _figure4)):
        by_variant: dict[str, list[Column]] = {}
        for one, column in columns(adaptive, series, drawn.missing):
            by_variant.setdefault(_label(one), []).append(column)
        for label, found in by_variant.items():
            drawn.figures[name + slug(label)] = _layout(found, label)
    return drawn


def _label(one: Series) -> str:
    rule = "" if one.config.rule == "paper" else f"rule {one.config.rule}"
    return ", ".join(part for part in (rule, variant(one.config)) if part)


Columns = Iterable[tuple[Series, Column]]


def _figure2(adaptive: Sequence[Series], _: Sequence[Series], missing: list[str]) -> Columns:
    """Compressed to the smallest size, with the place where the rule would have stopped."""
    found = [one for one in adaptive if not one.config.stop]
    # The robust rule has nothing to go on to after its answer.
    for one in first_start([one for one in adaptive if one.config.stop and one.config.rule != "robust"]):
        if key(one.config, "seed", "stop") not in {key(other.config, "seed", "stop") for other in found}:
            command = replace(one.config, stop=False, seed=one.seeds[0]).command
            missing.append(f"Figure 2 needs a run without stop: {command}")
    for one in first_start(found):

        def draw(axis: Axes, metric: str, one: Series = one) -> None:
            _curve(axis, one.column(metric), BLUE, "-", _seeds(one))
            _stops(axis, one)

        yield one, Column(one.config.dataset, one.config.fid_features, draw, partial(_sizes, one))


def _figure3(adaptive: Sequence[Series], series: Sequence[Series], missing: list[str]) -> Columns:
    """The adaptive model, and one whose size was the found one from the start."""
    there = {result.config: result for one in series for result in one.results if one.config.kind == "fixed"}
    for one in first_start([one for one in adaptive if one.config.stop]):
        wanted = {r.config.seed: fixed(r.config, size) for r, size in zip(one.results, one.sizes, strict=True)}
        for config in wanted.values():
            if config not in there:
                missing.append(f"Figure 3 needs a model of the size found: {config.command}")
        both = [seed for seed, config in wanted.items() if config in there]
        if not both:
            continue
        ours = Series(tuple(r for r in one.results if r.config.seed in both))
        theirs = Series(tuple(there[wanted[seed]] for seed in both))
        sizes = ", ".join(map(str, ours.sizes))

        def draw(axis: Axes, metric: str, ours: Series = ours, theirs: Series = theirs) -> None:
            _curve(axis, theirs.column(metric), BLUE, "-", "fixed size")
            _curve(axis, ours.column(metric), ORANGE, "--", "adaptive")

        yield (
            one,
            Column(f"{one.config.dataset}, final size {sizes}", one.config.fid_features, draw, None, _seeds(ours)),
        )


def _figure4(adaptive: Sequence[Series], _: Sequence[Series], missing: list[str]) -> Columns:
    """The same rule from several initial sizes."""
    groups: dict[Any, list[Series]] = {}
    for one in adaptive:
        if one.config.stop:
            groups.setdefault(key(one.config, "seed", "init_dim"), []).append(one)
    for found in groups.values():
        found.sort(key=lambda one: -one.config.init_dim)
        if len(found) < 2:
            command = sweep_command(found[0].config, "sweep-init", found[0].seeds)
            missing.append(f"Figure 4 needs several initial sizes: {command}")
            continue

        def draw(axis: Axes, metric: str, found: list[Series] = found) -> None:
            for number, one in enumerate(found):
                colour, line = LINES[number % len(LINES)]
                found_none = ", no stop" if not any(one.stops) else ""
                label = f"ALD_{number + 1} (Dim={size_text(one.sizes)}), from {one.config.init_dim}{found_none}"
                _curve(axis, one.column(metric), colour, line, label)

        yield found[0], Column(found[0].config.dataset, found[0].config.fid_features, draw, None, _seeds(found[0]))


def _seeds(one: Series) -> str:
    return f"seed {one.seeds[0]}" if len(one.seeds) == 1 else f"mean and deviation of {len(one.seeds)} seeds"


def size_text(sizes: Sequence[int]) -> str:
    """Return a size, or of several their mean and standard deviation."""
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
        figure.suptitle(wrapped(label, width), fontsize=SMALL)
    return figure


def _legend(axis: Axes, title: str) -> None:
    """Put the legend at the top of a panel, and raise the panel's upper end to make room for it above the curves."""
    legend = axis.legend(title=title or None, title_fontsize=SMALL, loc="upper right")
    room = _LEGEND_LINE * (len(legend.get_texts()) + bool(title))
    low, high = axis.transData.inverted().transform(axis.transAxes.transform([(0, 0), (0, 1 / (1 - room))]))[:, 1]
    axis.set_ylim(low, high)


def _curve(axis: Axes, values: pd.DataFrame, colour: str, line: str, label: str) -> None:
    """Draw the mean over seeds, and a band of one standard deviation where there are several."""
    values = values.dropna(how="all")
    if values.empty:
        axis.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axis.transAxes)
        return
    mean = values.mean(axis=1)
    axis.plot(mean.index, mean, color=colour, linestyle=line, label=label)
    if values.shape[1] > 1:
        deviation = values.std(axis=1)
        axis.fill_between(mean.index, mean - deviation, mean + deviation, color=colour, alpha=0.2, linewidth=0)


def _stops(axis: Axes, one: Series) -> None:
    epochs = [epoch for epoch in one.stops if epoch is not None]
    for number, epoch in enumerate(epochs):
        label = f"the rule stops ({len(epochs)} of {len(one.stops)})" if number == 0 else None
        axis.axvline(epoch, color=RED, linewidth=0.8, label=label)
    if not epochs:
        axis.plot([], [], color=RED, label="the rule never stops")


def _sizes(one: Series, axis: Axes) -> None:
    """Put the latent size (its mean over seeds) on an upper axis: a tick at each change, a label at some."""
    sizes = one.column("latent_dim").mean(axis=1)
    changes = sizes.index[sizes.diff() != 0].tolist()
    positions = np.unique(np.linspace(0, len(changes) - 1, _MOST_LABELS).round().astype(int))
    labelled = [changes[position] for position in positions]
    upper = axis.secondary_xaxis("top")
    upper.set_xticks(changes, minor=True)
    upper.set_xticks(labelled, [f"{sizes[epoch]:.0f}" for epoch in labelled])
    upper.set_xlabel("latent size")
