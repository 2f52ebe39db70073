"""The picture of the benchmark: what every way to choose a size answers where the truth is known, and what it costs.

``PYTHONPATH=benchmarks python -m peers.figure results/benchmark`` draws it from ``table.csv`` there, as
``figures/benchmark.png``.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aldvae.reporting.figures.style import BLACK, BLUE, PAGE, print_style, save
from peers.table import GRID

# The rule stands first, the others in the order in which they were asked.
RULE = "rule consolidate"
# Errors beyond so many dimensions, and gaps beyond so many percent, are drawn at the edge.
_MOST_ERROR, _MOST_GAP = 30, 100.0


def errors(table: pd.DataFrame, method: str) -> Iterator[int]:
    """Yield the size less the known number of factors for each answer of `method`, one for each start and seed."""
    rows = table[(table["method"] == method) & table["truth"].notna()]
    for sizes, truth in zip(rows["sizes"], rows["truth"], strict=True):
        yield from (int(size) - int(truth) for size in re.findall(r"\d+", str(sizes)))


def gaps(table: pd.DataFrame, method: str) -> list[float]:
    """Return the gap in percent for each problem and start on which `method` was judged."""
    rows = table[(table["method"] == method) & table["gap_percent"].notna()]
    return [float(gap) for gap in rows["gap_percent"]]


def draw(table: pd.DataFrame) -> Figure:
    """Return the figure; `table` has the columns of ``table.csv``."""
    others = [str(method) for method in table["method"].unique() if method not in (GRID, RULE, "rule robust")]
    methods = [RULE, *others]
    figure = Figure(figsize=(PAGE, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _strips(left, [list(errors(table, method)) for method in methods], _MOST_ERROR)
    left.set_yticks(range(len(methods)), [_label(method) for method in methods])
    left.invert_yaxis()
    left.set_xscale("symlog", linthresh=4)
    left.set_xticks([-10, -3, -1, 0, 1, 3, 10, 30], ["-10", "-3", "-1", "0", "1", "3", "10", "30 or more"])
    left.set_title("Known dimensions: answer less truth")
    _strips(right, [gaps(table, method) for method in methods], _MOST_GAP)
    right.set_xscale("symlog", linthresh=1)
    right.set_xticks([-1, 0, 1, 10, 100], ["-1%", "0", "1%", "10%", "100% or more"])
    right.set_title("All problems: loss above the best fixed size")
    return figure


def _strips(axis: Axes, rows: Sequence[Sequence[float]], most: float) -> None:
    """Draw a strip of dots for each row; values beyond `most` lie at the edge."""
    random = np.random.default_rng(0)
    for y, values in enumerate(rows):
        shown = np.clip(np.asarray(values, dtype=float), None, most)
        axis.scatter(
            shown, y + random.uniform(-0.25, 0.25, len(shown)), s=7, alpha=0.6, color=BLACK if y else BLUE, linewidths=0
        )
    axis.axvline(0, color=BLACK, linewidth=0.6)
    axis.tick_params(axis="y", length=0)


def _label(method: str) -> str:
    return "aldvae, recommended" if method == RULE else method


def main(arguments: list[str] | None = None) -> None:
    """Draw the figure for the folder that the command line names."""
    parser = argparse.ArgumentParser(description="Draw the picture of the benchmark.")
    parser.add_argument("results_dir", type=Path, help="where table.csv is")
    results_dir = parser.parse_args(arguments).results_dir
    with print_style():
        figure = draw(pd.read_csv(results_dir / "table.csv"))
        for path in save(figure, results_dir / "figures" / "benchmark", ["png"]):
            print(path)


if __name__ == "__main__":
    main()
