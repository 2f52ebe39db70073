"""The tables of the benchmark, made from the runs and ``peers.csv`` in its folder.

``PYTHONPATH=benchmarks python -m peers.table results/benchmark`` writes them there: ``table.csv`` has a row for each
problem, method and start, ``methods.csv`` one for each method, ``held_out.csv`` too, over the problems on which nothing
of the rule was chosen; ``sizes.csv`` and ``gaps.csv`` have a row for each problem and a column for each method.
"""

from __future__ import annotations

import argparse
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from aldvae.analysis.grid_search import Grid, find_grids, find_yardstick
from aldvae.analysis.series import Series, cost, format_sizes, group_by_seed
from aldvae.analysis.statistics import deviation
from aldvae.metrics.criterion import Criterion
from aldvae.metrics.table import LOSS
from aldvae.runs.results import read_results
from aldvae.utils.files import write_atomically
from peers.problems import COLUMNS, final_loss, known_factors, problem_name

GRID = "grid search"
# No constant of the rule was chosen on these, and no fault of it was found on them.
HELD_OUT = (
    *("curved3", "curved15", "factors2", "factors3", "factors5"),
    *("wide", "fashionmnist", "sprites", "digits, beta 0.25"),
)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a method answers on a problem, by seed.

    `losses` are those of models of the size answered. `start` is the initial size of a rule. `costs` are means over
    seeds: images and seconds until the answer, and until the trained model. `found_at` is when a rule had its answer,
    in percent of the epochs (None: never, or not a rule). `informative` are the numbers of informative dimensions, if
    the method tells them apart from sizes.
    """

    method: str
    start: int | None
    sizes: tuple[int, ...]
    found: tuple[bool, ...]
    losses: tuple[float, ...]
    costs: Mapping[str, float | None]
    found_at: float | None = None
    informative: tuple[int, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """A problem: the settings and results of its grid (None: it has none), and what all methods answer."""

    name: str
    truth: int | None
    grid: Grid | None
    answers: tuple[Answers, ...]

    @property
    def criterion(self) -> Criterion | None:
        """The losses of the grid by size; None without a grid, or with one seed."""
        return None if self.grid is None else find_yardstick(self.grid.values).criteria.get(LOSS.name)

    @property
    def yardstick(self) -> int | None:
        """The smallest size that is as good as the best by loss."""
        return None if self.criterion is None else self.criterion.good[0]

    @property
    def training_images(self) -> float | None:
        """The images of one training of the grid."""
        return None if self.grid is None else cost(self.grid.points[-1:])["images"]

    def spread(self, method: str) -> float | None:
        """Return how far apart a method's mean sizes from different starts are; None if it has a single start.

        A start below the yardstick does not count: it is a problem of its own.
        """
        starts = [a for a in self.answers if a.method == method and a.start is not None]
        means = [fmean(a.sizes) for a in starts if (a.start or 0) >= (self.yardstick or 0)]
        return round(max(means) - min(means), 4) if len(means) > 1 else None


def comparisons(results_dir: Path) -> list[Comparison]:
    """Return the problems in `results_dir`, by name; models that were trained for peers are no part of the grids."""
    results = [result for result in read_results(results_dir) if result.path.parent == results_dir]
    all_series, _ = group_by_seed(results)
    grids, adaptive = find_grids(all_series), [series for series in all_series if series.finds_size]
    path = results_dir / "peers.csv"
    peers = pd.read_csv(path).to_dict("records") if path.exists() else []
    found = [_comparison(grid, [s for s in adaptive if grid.answers_for(s)], peers) for grid in grids]
    lone: dict[str, list[Series]] = {}
    for series in adaptive:
        if not any(grid.answers_for(series) for grid in grids):
            lone.setdefault(problem_name(series.config), []).append(series)
    found += [Comparison(name, None, None, tuple(map(_rule, rules))) for name, rules in lone.items()]
    return sorted(found, key=lambda comparison: comparison.name)


def _comparison(grid: Grid, rules: Sequence[Series], peers: Sequence[Mapping[Hashable, Any]]) -> Comparison:
    name, truth = problem_name(grid.config), known_factors(grid.config)
    # Rows for other settings of the problem are left out.
    own = [row["model"] == grid.config.override(init_dim=row["size"], seed=row["seed"]).name for row in peers]
    rows = pd.DataFrame([row for row, is_own in zip(peers, own, strict=True) if is_own], columns=COLUMNS)
    others = [_peer(str(method), part) for method, part in rows.groupby("method", sort=False)]
    search = _grid_search(grid, Comparison(name, truth, grid, ()).yardstick)
    return Comparison(name, truth, grid, (*search, *map(_rule, rules), *others))


def _grid_search(grid: Grid, yardstick: int | None) -> Iterator[Answers]:
    """Yield the answer of the grid itself, if it has one; its cost is that of all sizes with one seed."""
    if yardstick is not None:
        yield Answers(
            method=GRID,
            start=None,
            sizes=(yardstick,),
            found=(True,),
            losses=tuple(grid.values[LOSS.name][yardstick]),
            costs=_costs([cost(grid.points)] * 2),
        )


def _rule(series: Series) -> Answers:
    epochs = series.config.training.epochs
    informative = [dict[str, object](result.answer).get("n_informative") for result in series.results]
    return Answers(
        method=f"rule {series.config.rule}",
        start=series.config.model.init_dim,
        sizes=series.sizes,
        found=series.stopped,
        losses=tuple(final_loss(result) for result in series.results),
        costs=_costs([cost([series], until_stop=True), cost([series])]),
        found_at=100 * fmean(series.epochs_found) / epochs if series.epochs_found else None,
        informative=tuple(count for count in informative if isinstance(count, int)),
    )


def _costs(parts: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    stages = ("answer", "model")
    return {f"{s}_{unit}": part[unit] for unit in ("images", "seconds") for s, part in zip(stages, parts, strict=True)}


def _peer(method: str, rows: pd.DataFrame) -> Answers:
    names = ("answer_images", "model_images", "answer_seconds", "model_seconds")
    return Answers(
        method=method,
        start=None,
        sizes=tuple(map(int, rows["size"])),
        found=tuple(map(bool, rows["found"])),
        losses=tuple(map(float, rows["loss"])),
        costs={name: round(float(rows[name].mean()), 1) for name in names},
    )


def problem_rows(comparison: Comparison) -> list[dict[str, object]]:
    """Return a row for each method and start on a problem.

    `error` is the mean size less the yardstick, `gap` the mean loss less that of the best fixed size, also in percent
    of it; `as_good` says whether the gap is at most the standard error of the best size. Losses are in nats per sample.
    """
    return [_row(comparison, answers) for answers in comparison.answers]


def _row(comparison: Comparison, answers: Answers) -> dict[str, object]:
    mean = round(fmean(answers.sizes), 4)
    found_at = answers.found_at
    return {
        "problem": comparison.name,
        "method": answers.method,
        "start": answers.start,
        "sizes": format_sizes(answers.sizes, answers.found),
        "size_mean": mean,
        "informative": " ".join(map(str, answers.informative)),
        "truth": comparison.truth,
        "yardstick": comparison.yardstick,
        "error": None if comparison.yardstick is None else round(mean - comparison.yardstick, 4),
        "deviation": deviation(answers.sizes),
        "spread": comparison.spread(answers.method) if answers.start is not None else None,
        **_losses(comparison.criterion, fmean(answers.losses)),
        "found_at": None if found_at is None else round(found_at, 1),
        **answers.costs,
    }


def _losses(criterion: Criterion | None, loss: float) -> dict[str, object]:
    row: dict[str, object] = {"loss": round(loss, 4)}
    if criterion is None:
        return row | dict.fromkeys(("best_size", "best_loss", "best_error", "gap", "gap_percent", "as_good"))
    best, error = criterion.means[criterion.best], criterion.errors[criterion.best]
    gap = loss - best
    return row | {
        "best_size": criterion.best,
        "best_loss": round(best, 4),
        "best_error": round(error, 4),
        "gap": round(gap, 4),
        "gap_percent": round(100 * gap / abs(best), 3),
        "as_good": "yes" if gap <= error else "no",
    }


def method_rows(table: pd.DataFrame, images: Mapping[str, float | None]) -> list[dict[str, object]]:
    """Return a row for each method: its mean and worst errors over the rows of `problem_rows` that have a yardstick.

    `images` are those of one training, by problem: costs in images are multiples of it, means over problems.
    """
    judged = table[table["yardstick"].notna()]
    return [_method(str(method), rows, images) for method, rows in judged.groupby("method", sort=False)]


def _method(method: str, rows: pd.DataFrame, images: Mapping[str, float | None]) -> dict[str, object]:
    error, gap = rows["error"].astype(float).abs(), rows["gap_percent"].astype(float)
    training = rows["problem"].map(images).astype(float)
    return {
        "method": method,
        "problems": rows["problem"].nunique(),
        "mean_error": round(error.mean(), 2),
        "largest_error": round(error.max(), 2),
        "largest_deviation": rows["deviation"].astype(float).max(),
        "largest_spread": rows["spread"].astype(float).max(),
        "median_gap_percent": round(gap.median(), 3),
        "mean_gap_percent": round(gap.mean(), 3),
        "worst_gap_percent": round(gap.max(), 3),
        "as_good": f"{(rows['as_good'] == 'yes').sum()} of {len(rows)}",
        "trainings_until_answer": round((rows["answer_images"].astype(float) / training).mean(), 2),
        "trainings_until_model": round((rows["model_images"].astype(float) / training).mean(), 2),
    }


def by_method(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return a row for each problem with a yardstick and a column for each method: the mean of `column` over starts.

    The order of problems and methods is that of `table`. The yardstick and the known number of factors come first.
    """
    judged = table[table["yardstick"].notna()]
    means = judged.astype({column: float}).pivot_table(index="problem", columns="method", values=column, sort=False)
    known = judged.groupby("problem", sort=False)[["truth", "yardstick"]].first()
    methods = [method for method in judged["method"].unique() if method != GRID]
    return known.join(means[methods].round(3)).reset_index()


def make_tables(results_dir: Path) -> dict[str, pd.DataFrame]:
    """Return the tables by the names of their files, from the results in a folder."""
    found = comparisons(results_dir)
    # Objects keep a size an integer in a column where another size is missing.
    table = pd.DataFrame([row for comparison in found for row in problem_rows(comparison)], dtype=object)
    images = {comparison.name: comparison.training_images for comparison in found}
    return {
        "table": table,
        "methods": pd.DataFrame(method_rows(table, images), dtype=object),
        "held_out": pd.DataFrame(method_rows(table[table["problem"].isin(HELD_OUT)], images), dtype=object),
        "sizes": by_method(table, "size_mean"),
        "gaps": by_method(table, "gap_percent"),
    }


def main(arguments: list[str] | None = None) -> None:
    """Write the tables into the folder that the command line names."""
    parser = argparse.ArgumentParser(description="Make the tables of the benchmark.")
    parser.add_argument("results_dir", type=Path, help="where the runs and peers.csv are")
    results_dir = parser.parse_args(arguments).results_dir
    for name, table in make_tables(results_dir).items():
        write_atomically(results_dir / f"{name}.csv", table.to_csv(index=False, lineterminator="\n"))


if __name__ == "__main__":
    main()
