"""The paper's numbers beside ours: sizes found, adaptive against fixed models, and the cost of the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import pandas as pd

from aldvae.analysis.ablation import ablation_table
from aldvae.analysis.comparison import comparison_table
from aldvae.analysis.grid_search import find_grids, yardstick_table
from aldvae.analysis.series import GroupKey, Series, cost, describe, group_key, model_key, pair_with_fixed
from aldvae.analysis.statistics import deviation, mean
from aldvae.config.presets import PRESETS
from aldvae.metrics.table import FRECHET, HEADLINE
from aldvae.utils.files import write_atomically

# Sections 5.2 and 5.1 of the paper: deviation of the size over five seeds, epochs until it is found.
PAPER = {
    "mnist": {"deviation": 3, "epochs": 50},
    "fashionmnist": {"deviation": 2, "epochs": 100},
    "eurosat": {"deviation": 6, "epochs": 50},
    "sprites": {"deviation": 7, "epochs": 50},
}


def make_tables(all_series: Sequence[Series]) -> dict[str, pd.DataFrame]:
    """Return the tables by file name; a table is empty if there are no runs for it."""
    return {
        "sizes": sizes_table(all_series),
        "initial_sizes": initial_sizes_table(all_series),
        "adaptive_and_fixed": adaptive_and_fixed_table(all_series),
        "cost": cost_table(all_series),
        "yardstick": yardstick_table(find_grids(all_series)),
        "methods": comparison_table(all_series),
        "variants": ablation_table(all_series),
    }


def sizes_table(all_series: Sequence[Series]) -> pd.DataFrame:
    """Return the sizes found by dataset, rule, initial size and seed, with mean and deviation (section 5.2).

    A size in brackets was reached by a run whose rule did not stop; means and deviations are over the others.
    """
    return pd.DataFrame([_sizes_row(series) for series in all_series if series.finds_size])


def _sizes_row(series: Series) -> dict[str, object]:
    paper = PAPER.get(series.config.data.dataset, {})
    return {
        **_names(series),
        "init_dim": series.config.model.init_dim,
        "seeds": " ".join(map(str, series.seeds)),
        "sizes": series.sizes_text,
        "size_mean": mean(series.sizes_found),
        "size_deviation": deviation(series.sizes_found),
        "paper_size_deviation": paper.get("deviation"),
        "stopped": len(series.epochs_found),
        "stop_epoch_mean": mean(series.epochs_found),
        "paper_stop_epoch": paper.get("epochs"),
    }


def initial_sizes_table(all_series: Sequence[Series]) -> pd.DataFrame:
    """Return how far apart the mean sizes found from different initial sizes are (section 5.2: 1 to 2)."""
    groups: dict[GroupKey, list[Series]] = {}
    for series in all_series:
        if series.finds_size and series.sizes_found:
            groups.setdefault(group_key(series.config, "seed", "init_dim"), []).append(series)
    rows = []
    for group in groups.values():
        means = {series.config.model.init_dim: fmean(series.sizes_found) for series in group}
        if len(means) > 1:
            starts = sorted(means, reverse=True)
            row = {**_names(group[0]), "init_dims": " ".join(map(str, starts))}
            row |= {"size_means": " ".join(f"{means[start]:.4g}" for start in starts)}
            rows.append(row | {"spread": round(max(means.values()) - min(means.values()), 4), "paper_spread": "1-2"})
    return pd.DataFrame(rows)


def adaptive_and_fixed_table(all_series: Sequence[Series]) -> pd.DataFrame:
    """Return final metrics of adaptive runs, and of models that had the size found from the start (section 5.1)."""
    pairs = ((series, pair_with_fixed(series, all_series)) for series in all_series if series.finds_size)
    return pd.DataFrame([row for series, pair in pairs if pair for row in _metric_rows(series, *pair)])


def _metric_rows(series: Series, adaptive: Series, fixed: Series) -> list[dict[str, object]]:
    return [
        {
            **_names(series),
            "init_dim": series.config.model.init_dim,
            "seeds": len(adaptive.seeds),
            "metric": metric + (f" ({series.config.metrics.fid_features})" if metric in FRECHET else ""),
            "adaptive": mean(adaptive.final(metric)),
            "adaptive_deviation": deviation(adaptive.final(metric)),
            "fixed": mean(fixed.final(metric)),
            "fixed_deviation": deviation(fixed.final(metric)),
        }
        for metric in HEADLINE
    ]


def cost_table(all_series: Sequence[Series]) -> pd.DataFrame:
    """Return epochs, seconds and images of a grid search and of an adaptive run, for one seed (means over seeds).

    A whole adaptive run is counted, since it leaves a trained model as each size of the grid does; `epochs_found` is
    when its size was known.
    """
    return pd.DataFrame([_cost_row(series, all_series) for series in all_series if series.finds_size])


def _cost_row(series: Series, all_series: Sequence[Series]) -> dict[str, object]:
    grid, adaptive = _replaced_grid(series, all_series), cost([series])
    sizes = " ".join(str(point.config.model.init_dim) for point in grid)
    row = {**_names(series), "init_dim": series.config.model.init_dim, "grid_sizes": sizes}
    row |= {f"{name}_adaptive": value for name, value in adaptive.items()}
    row["epochs_found"] = mean(series.epochs_found)
    if grid:
        search = cost(grid)
        row |= {f"{name}_grid": value for name, value in search.items()}
        row |= {f"{name}_ratio": _ratio(search[name], adaptive[name]) for name in adaptive}
    return row


def _replaced_grid(series: Series, all_series: Sequence[Series]) -> list[Series]:
    """Return the grid search that `series` replaces.

    These are the sizes of the dataset's preset if all are there, or else all sizes that have the seeds of `series`.
    """
    key = model_key(series.config)
    alike = [other for other in all_series if other.config.compression is None and model_key(other.config) == key]
    preset = PRESETS.get(series.config.data.dataset)
    if preset is not None:
        points = [other for other in alike if other.config.model.init_dim in preset.grid]
        if len(points) == len(preset.grid):
            return points
    return [other for other in alike if set(series.seeds) <= set(other.seeds)]


def _ratio(search: float | None, adaptive: float | None) -> float | None:
    return round(search / adaptive, 2) if search and adaptive else None


def _names(series: Series) -> dict[str, object]:
    return {"dataset": series.config.data.dataset, "rule": series.config.rule, "settings": describe(series.config)}


def text_rows(table: pd.DataFrame) -> list[list[str]]:
    """Return the cells of `table` as text."""
    return [[cell_text(value) for value in row] for row in table.itertuples(index=False)]


def markdown(table: pd.DataFrame) -> str:
    """Return `table` as Markdown; missing values are empty cells."""
    lines = [list(table.columns), ["---"] * len(table.columns), *text_rows(table)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cell_text(value: object) -> str:
    """Return a value as text, a float with six significant digits; empty if it is missing (None or NaN)."""
    if value is None or value != value:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def write_tables(tables: Mapping[str, pd.DataFrame], directory: Path) -> list[Path]:
    """Write each table that has rows as CSV and as Markdown; return the paths."""
    paths = []
    for name, table in tables.items():
        if not table.empty:
            for suffix, text in ((".csv", table.to_csv(index=False, lineterminator="\n")), (".md", markdown(table))):
                write_atomically(directory / f"{name}{suffix}", text)
                paths.append(directory / f"{name}{suffix}")
    return paths
