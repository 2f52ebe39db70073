"""Pictures of results, drawn from a run directory's CSVs and JSON alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aldvae.utils.files import write_figure

TITLES = {
    "recon_loss": "Reconstruction loss (nats per sample)",
    "silhouette": "Silhouette score",
    "fid_recon": "Fréchet distance of reconstructions",
    "fid_gen": "Fréchet distance of generations",
}
_BLUE, _ORANGE, _RED = "#0072b2", "#e69f00", "#d62728"


def draw_overview(run: Path) -> Path:
    """Draw the run in directory `run` as ``overview.png`` there: sizes, metrics and latent neurons over epochs."""
    metrics = pd.read_csv(run / "metrics.csv")
    summary = json.loads((run / "summary.json").read_text())
    figure = Figure(figsize=(10, 9), layout="constrained")
    axes = figure.subplots(3, 2)
    _draw_sizes(axes[0, 0], metrics)
    _draw_neurons(axes[0, 1], pd.read_csv(run / "latent.csv"))
    for axis, (column, title) in zip(axes.flat[2:], TITLES.items(), strict=True):
        _draw_metric(axis, metrics, column, title)
    for axis in axes.flat:
        axis.set_xlabel("epoch")
        if summary["stop_epoch"] is not None:
            axis.axvline(summary["stop_epoch"], color=_RED, linewidth=1)
    figure.suptitle(_headline(json.loads((run / "config.json").read_text())["settings"], summary))
    return write_figure(figure, run / "overview.png")


def _headline(settings: dict[str, Any], summary: dict[str, Any]) -> str:
    what = f"{settings['dataset']}, from {settings['init_dim']} latent dimensions, seed {settings['seed']}: "
    if settings["kind"] == "fixed":
        return what + "fixed size"
    if summary["stop_epoch"] is None:
        return what + f"no stop within {summary['epochs']} epochs, size reached {summary['latent_dim']}"
    found = "size found" if settings["stop"] else "would have stopped at size"
    return what + f"{found} {summary['stop_latent_dim']} (epoch {summary['stop_epoch']}, red)"


def _draw_sizes(axis: Axes, metrics: pd.DataFrame) -> None:
    axis.step(metrics["epoch"], metrics["latent_dim"], where="mid", color=_BLUE, label="latent size")
    measured = metrics[["epoch", "active_units"]].dropna()
    axis.plot(measured["epoch"], measured["active_units"], color=_ORANGE, linewidth=1, label="active units")
    axis.set_ylim(bottom=0)
    axis.set_title("Latent size")
    axis.legend(frameon=False)


def _draw_neurons(axis: Axes, latent: pd.DataFrame) -> None:
    """Draw the KL divergence of each neuron that was ever there; white from its removal on."""
    table = latent.pivot_table(index="neuron", columns="epoch", values="kl")
    order = table.count(axis=1).sort_values(ascending=False, kind="stable").index
    first, last = int(table.columns.min()), int(table.columns.max())
    picture = axis.imshow(
        np.log10(table.loc[order].to_numpy().clip(1e-3)),
        aspect="auto",
        interpolation="none",
        origin="lower",
        extent=(first - 0.5, last + 0.5, 0, len(order)),
        cmap="viridis",
    )
    axis.set_ylabel("latent neurons, longest kept first")
    axis.set_title("KL divergence of each neuron (nats)")
    axis.figure.colorbar(picture, ax=axis, format=lambda power, _: f"{10**power:.2g}")


def _draw_metric(axis: Axes, metrics: pd.DataFrame, column: str, title: str) -> None:
    features = metrics["fid_features"].iloc[0]
    if metrics[column].isna().all():
        axis.text(0.5, 0.5, f"not measured (features: {features})", ha="center", transform=axis.transAxes)
    measured = metrics[["epoch", column]].dropna()
    axis.plot(measured["epoch"], measured[column], color=_BLUE, linewidth=1)
    axis.set_title(f"{title}, {features} features" if column.startswith("fid_") else title)
