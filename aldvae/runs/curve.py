"""What a curve says: the smallest size that is good by the loss, by reconstructions, by generations and by clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import sqrt

from aldvae.metrics.criterion import Criterion
from aldvae.metrics.table import LOSS, METRICS
from aldvae.runs.records import Cell, Summary

Rows = Sequence[Mapping[str, Cell]]

# What can be favoured, as a sentence names it.
FAVOURED_TEXT = {
    "loss": "the loss",
    "reconstruction": "reconstructions",
    "generation": "generations",
    "clustering": "clusters",
}
# The noise of a metric is taken from so many of the last measured epochs, during which the model hardly changes.
_EPOCHS = 10


def favoured_metrics(has_frechet: bool) -> dict[str, str]:
    """Return the metric of each thing that can be favoured; without Fréchet distances, some have another or none."""
    images = (
        {"reconstruction": "fid_recon", "generation": "fid_gen"} if has_frechet else {"reconstruction": "recon_loss"}
    )
    return {"loss": LOSS.name, **images, "clustering": "silhouette"}


def smallest_sizes(curve: Rows, epochs: Rows, *, beta: float, has_frechet: bool) -> dict[str, int]:
    """Return the smallest size that is good by each of `favoured_metrics`.

    `curve` are rows of ``curve.csv``, `epochs` those of ``metrics.csv``. A size is good if its metric is as good as the
    best of the curve, but for the noise that the metric has from epoch to epoch: what the standard error over seeds is
    for the yardstick of a grid search, which one run does not have. A metric that was not measured is left out.
    """
    found = {}
    for favoured, metric in favoured_metrics(has_frechet).items():
        values = {
            int(str(row["latent_dim"])): value for row in curve if (value := _cost(row, metric, beta)) is not None
        }
        last = [value for row in epochs if (value := _cost(row, metric, beta)) is not None][-_EPOCHS:]
        if values:
            found[favoured] = Criterion(values, dict.fromkeys(values, noise(last))).good[0]
    return found


def noise(values: Sequence[float]) -> float:
    """Return the standard deviation of values around a slow trend, from their successive differences; 0 for one."""
    squares = [(after - before) ** 2 for before, after in pairwise(values)]
    return sqrt(sum(squares) / len(squares) / 2) if squares else 0.0


def _cost(row: Mapping[str, Cell], metric: str, beta: float) -> float | None:
    """Return a metric, negative if higher is better; None if it was not measured."""
    if metric == LOSS.name:
        parts = (_cost(row, "recon_loss", beta), _cost(row, "kl", beta))
        return None if parts[0] is None or parts[1] is None else parts[0] + beta * parts[1]
    value = row.get(metric)
    if not isinstance(value, int | float):
        return None
    return -float(value) if METRICS[metric].better == "higher" else float(value)


def describe_curve(summary: Summary) -> str:
    """Return the smallest sizes that are good, as a sentence; empty for a run without a curve."""
    sizes = summary.get("smallest_sizes")
    if not sizes:
        return ""
    parts = [f"{size} by {FAVOURED_TEXT[favoured]}" for favoured, size in sizes.items()]
    return f"Smallest sizes as good as the best of the curve: {', '.join(parts)}."
