"""The paper's numbers beside ours: sizes found, adaptive against fixed models, and what the answer cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from aldvae.analysis.ablation import variants_table
from aldvae.analysis.comparison import methods
from aldvae.analysis.grid_search import grids, yardsticks
from aldvae.analysis.series import Series, fixed, key, model_key, spent, variant
from aldvae.analysis.statistics import deviation, mean
from aldvae.config.presets import PROTOCOLS
from aldvae.metrics.table import FRECHET, HEADLINE
from aldvae.utils.files import write_atomically

# Section 5.2 and 5.1 of the paper: deviation of the size over five seeds, epochs until it is found.
PAPER = {
    "mnist": {"deviation": 3, "epochs": 50},
    "fashionmnist": {"deviation": 2, "epochs": 100},
    "eurosat": {"deviation": 6, "epochs": 50},
    "sprites": {"deviation": 7, "epochs": 50},
}


def make_tables(series: Sequence[Series]) -> dict[str, pd.DataFrame]:
    """Return the tables by name; one for which there are no runs is empty."""
    return {
        "sizes": sizes(series),
        "initial_sizes": initial_sizes(series),
        "adaptive_and_fixed": adaptive_and_fixed(series),
        "cost": cost(series),
        "yardstick": yardsticks(grids(series)),
        "methods": methods(series),
        "variants": variants_table(series),
    }


def sizes(series: Sequence[Series]) -> pd.DataFrame:
    """Return sizes found by dataset, rule, initial size and seed, with mean and deviation (section 5.2).

    A size in brackets was reached by a run whose rule did not stop; means and deviations are over the others.
    """
    rows = []
    for one in series:
        if one.config.kind != "adaptive" or not one.config.stop:
            continue
        told = PAPER.get(one.config.dataset, {})
        stops = [epoch for epoch in one.stops if epoch is not None]
        rows.append(
            {
                **_names(one),
                "init_dim": one.config.init_dim,
                "seeds": " ".join(map(str, one.seeds)),
                "sizes": one.told,
                "size_mean": mean(one.found),
                "size_deviation": deviation(one.found),
                "paper_size_deviation": told.get("deviation"),
                "stopped": len(stops),
                "stop_epoch_mean": mean(stops),
                "paper_stop_epoch": told.get("epochs"),
            }
        )
    return pd.DataFrame(rows)


def initial_sizes(series: Sequence[Series]) -> pd.DataFrame:
    """Return how far the mean sizes found from different initial sizes lie apart (section 5.2: 1 to 2)."""
    groups: dict[Any, list[Series]] = {}
    for one in series:
        if one.config.kind == "adaptive" and one.config.stop and one.found:
            groups.setdefault(key(one.config, "seed", "init_dim"), []).append(one)
    rows = []
    for group in groups.values():
        means = {one.config.init_dim: fmean(one.found) for one in group}
        if len(means) > 1:
            starts = sorted(means, reverse=True)
            row = {**_names(group[0]), "init_dims": " ".join(map(str, starts))}
            row |= {"size_means": " ".join(f"{means[start]:.4g}" for start in starts)}
            rows.append(row | {"spread": round(max(means.values()) - min(means.values()), 4), "paper_spread": "1-2"})
    return pd.DataFrame(rows)


def adaptive_and_fixed(series: Sequence[Series]) -> pd.DataFrame:
    """Return final metrics of adaptive runs and of models whose size was the found one from the start (section 5.1)."""
    there = {result.config: result for one in series for result in one.results if one.config.kind == "fixed"}
    rows = []
    for one in series:
        if one.config.kind != "adaptive" or not one.config.stop:
            continue
        pairs = [(r, there.get(fixed(r.config, size))) for r, size in zip(one.results, one.sizes, strict=True)]
        matched = [(ours, theirs) for ours, theirs in pairs if theirs is not None]
        if not matched:
            continue
        ours, theirs = (Series(tuple(side)) for side in zip(*matched, strict=True))
        for metric in HEADLINE:
            rows.append(
                {
                    **_names(one),
                    "init_dim": one.config.init_dim,
                    "seeds": len(matched),
                    "metric": metric + (f" ({one.config.fid_features})" if metric in FRECHET else ""),
                    "adaptive": mean(ours.final(metric)),
                    "adaptive_deviation": deviation(ours.final(metric)),
                    "fixed": mean(theirs.final(metric)),
                    "fixed_deviation": deviation(theirs.final(metric)),
                }
            )
    return pd.DataFrame(rows)


def cost(series: Sequence[Series]) -> pd.DataFrame:
    """Return epochs, seconds and images of a grid search and of an adaptive run, for one seed (means over seeds).

    A whole adaptive run leaves a trained model as each point of the grid does; its size is known at `found`.
    """
    rows = []
    for one in series:
        if one.config.kind != "adaptive" or not one.config.stop:
            continue
        grid = _grid(one, series)
        ours = spent([one])
        row = {
            **_names(one),
            "init_dim": one.config.init_dim,
            "grid_sizes": " ".join(str(s.config.init_dim) for s in grid),
        }
        stops = [epoch for epoch in one.stops if epoch is not None]
        row |= {f"{name}_adaptive": value for name, value in ours.items()} | {"epochs_found": mean(stops)}
        if grid:
            theirs = spent(grid)
            row |= {f"{name}_grid": value for name, value in theirs.items()}
            row |= {f"{name}_ratio": _ratio(theirs[name], ours[name]) for name in ours}
        rows.append(row)
    return pd.DataFrame(rows)


def _grid(one: Series, series: Sequence[Series]) -> list[Series]:
    """Return the grid search `one` replaces: the protocol's sizes if all are there, else those with all its seeds."""
    wanted = model_key(one.config)
    like = [other for other in series if other.config.kind == "fixed" and model_key(other.config) == wanted]
    known = PROTOCOLS.get(one.config.dataset)
    usual = [other for other in like if known is not None and other.config.init_dim in known.grid]
    if known is not None and len(usual) == len(known.grid):
        return usual
    return [other for other in like if set(one.seeds) <= set(other.seeds)]


def _ratio(theirs: float | None, ours: float | None) -> float | None:
    return round(theirs / ours, 2) if theirs and ours else None


def _names(one: Series) -> dict[str, Any]:
    return {"dataset": one.config.dataset, "rule": one.config.rule, "settings": variant(one.config)}


def markdown(table: pd.DataFrame) -> str:
    """Return `table` as Markdown, empty cells for what is not there."""
    cells = [[cell(value) for value in row] for row in table.itertuples(index=False)]
    lines = [list(table.columns), ["---"] * len(table.columns), *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cell(value: Any) -> str:
    """Return a value as a reader wants it; empty for what is not there."""
    if value is None or value != value:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def write_tables(tables: dict[str, pd.DataFrame], directory: Path) -> list[Path]:
    """Write each table that has rows as CSV and as Markdown; return the paths."""
    paths = []
    for name, table in tables.items():
        if not table.empty:
            for suffix, text in ((".csv", table.to_csv(index=False, lineterminator="\n")), (".md", markdown(table))):
                write_atomically(directory / f"{name}{suffix}", text)
                paths.append(directory / f"{name}{suffix}")
    return paths
