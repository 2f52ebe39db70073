"""Curves among the runs: metrics by size, and the grid searches that they can be compared with."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import pandas as pd

from aldvae.analysis.grid_search import Grid
from aldvae.analysis.series import Series
from aldvae.config.run_config import METRICS_SETTINGS, RunConfig
from aldvae.metrics.table import LOSS
from aldvae.runs.results import Result

# The settings of metrics that change their values.
_MEASURED = tuple(name for name in METRICS_SETTINGS if name != "metrics_every")


def curve_table(result: Result) -> pd.DataFrame:
    """Return the curve of a run: a row per `latent_dim`, smallest first, with `loss` and all metrics; empty without.

    ``loss`` is `recon_loss` + `beta` * `kl`, in nats per sample.
    """
    table = result.curve.set_index("latent_dim").sort_index()
    table[LOSS.name] = table["recon_loss"] + result.config.model.beta * table["kl"]
    return table


def comparable_grid(series: Series, grids: Sequence[Grid]) -> Grid | None:
    """Return the first of `grids` with the same data, model and training as `series`; None if there is none."""
    return next((grid for grid in grids if grid.answers_for(series)), None)


def grid_means(grid: Grid, metric: str, config: RunConfig) -> dict[int, float]:
    """Return the mean over seeds of a metric by size, as far as it was measured as in the run `config`."""
    losses = (LOSS.name, "recon_loss")
    if metric not in losses and any(grid.config.settings[name] != config.settings[name] for name in _MEASURED):
        return {}
    values = {point.config.model.init_dim: point.final(metric) for point in grid.points}
    return {size: fmean(seeds) for size, seeds in {**values, **grid.values.get(metric, {})}.items() if seeds}
