"""One finished run as a picture, drawn from its tables and summary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aldvae.analysis.course import kl_table
from aldvae.config.run_config import RunConfig
from aldvae.metrics.table import METRICS, Metric
from aldvae.runs.records import Summary
from aldvae.runs.results import Result, read_result
from aldvae.utils.errors import ConfigError
from aldvae.utils.files import write_figure

_PANELS = [metric for metric in METRICS.values() if metric.paper_row is not None]
_BLUE, _ORANGE, _RED, _GRAY = "#0072b2", "#e69f00", "#d62728", "#999999"


def draw_overview(path: Path) -> Path:
    """Draw the finished run in the directory `path` as ``overview.png`` there; return that file.

    Raises `ConfigError` if there is no finished run, and if its tables are lost or damaged.
    """
    result = read_result(path)
    if result is None or result.summary is None:
        raise ConfigError("results_dir", f"{path} holds no finished run; aldvae adaptive makes one")
    if not result.is_complete or result.latent.empty:
        raise ConfigError("results_dir", f"{path} lost metrics.csv or latent.csv; delete it to have the run done again")
    return write_figure(draw_run(result), path / "overview.png")


def draw_run(result: Result) -> Figure:
    """Draw sizes, metrics and latent neurons of a finished run over epochs."""
    metrics, stop_epoch, training = result.metrics, result.answer["stop_epoch"], result.config.training
    figure = Figure(figsize=(10, 9), layout="constrained")
    axes = figure.subplots(3, 2)
    _draw_sizes(axes[0, 0], metrics)
    _draw_neurons(axes[0, 1], result.latent)
    for axis, metric in zip(axes.flat[2:], _PANELS, strict=True):
        _draw_metric(axis, metrics, metric)
    for axis in axes.flat:
        axis.set_xlabel("epoch")
        if training.warmup:
            axis.axvspan(0.5, 0.5 + training.warmup * training.epochs, color=_GRAY, alpha=0.3, linewidth=0, zorder=-1)
        if stop_epoch is not None:
            axis.axvline(stop_epoch, color=_RED, linewidth=1)
    figure.suptitle(_headline(result.config, result.answer))
    return figure


def _headline(config: RunConfig, summary: Summary) -> str:
    start = f"{config.data.dataset}, from {config.model.init_dim} latent dimensions, seed {config.training.seed}: "
    if config.training.warmup:
        start = f"KL warm-up in gray; {start}"
    if config.compression is None:
        return start + "fixed size"
    if summary["stop_epoch"] is None:
        return start + f"no stop within {summary['epochs']} epochs, size reached {summary['latent_dim']}"
    found = "size found" if config.compression.stop else "would have stopped at size"
    return start + f"{found} {summary['stop_latent_dim']} (epoch {summary['stop_epoch']}, red)"


def _draw_sizes(axis: Axes, metrics: pd.DataFrame) -> None:
    axis.step(metrics["epoch"], metrics["latent_dim"], where="mid", color=_BLUE, label="latent size")
    measured = metrics[["epoch", "active_units"]].dropna()
    axis.plot(measured["epoch"], measured["active_units"], color=_ORANGE, linewidth=1, label="active units")
    axis.set_ylim(bottom=0)
    axis.set_title("Latent size")
    axis.legend(frameon=False)


def _draw_neurons(axis: Axes, latent: pd.DataFrame) -> None:
    """Draw the KL divergence of each neuron over epochs; white after its removal."""
    table = kl_table(latent)
    first, last = int(table.columns.min()), int(table.columns.max())
    picture = axis.imshow(
        np.log10(table.to_numpy().clip(1e-3)),
        aspect="auto",
        interpolation="none",
        origin="lower",
        extent=(first - 0.5, last + 0.5, 0, len(table)),
        cmap="viridis",
    )
    axis.set_ylabel("latent neurons, longest kept first")
    axis.set_title("KL divergence of each neuron (nats)")
    axis.figure.colorbar(picture, ax=axis, format=lambda power, _: f"{10**power:.2g}")


def _draw_metric(axis: Axes, metrics: pd.DataFrame, metric: Metric) -> None:
    features = metrics["fid_features"].iloc[0]
    measured = metrics[["epoch", metric.name]].dropna()
    if measured.empty:
        reason = f"features: {features}" if metric.frechet_of else "no clusters"
        axis.text(0.5, 0.5, f"not measured ({reason})", ha="center", transform=axis.transAxes)
    axis.plot(measured["epoch"], measured[metric.name], color=_BLUE, linewidth=1)
    axis.set_title(f"{metric.title}, {features} features" if metric.frechet_of else metric.title_with_unit)
