"""The course of a run: what its tables say of size, information, loss and warm-up, epoch by epoch."""

from __future__ import annotations

import numpy as np
import pandas as pd

from aldvae.compression.information import is_copy
from aldvae.compression.rules.limits import informative_above
from aldvae.runs.results import Result


def losses(result: Result) -> pd.Series[float]:
    """Return `recon_loss` + `beta` * `kl` by epoch, in nats per validation sample; epochs not measured are absent."""
    metrics = result.metrics.set_index("epoch")
    return (metrics["recon_loss"] + result.config.model.beta * metrics["kl"]).dropna()


def informative_counts(result: Result) -> pd.Series[int]:
    """Return by epoch the number of dimensions that carry information; epochs not measured are absent.

    Where the rule judges principal directions, these are counted, without copies; else dimensions by their KL
    divergence.
    """
    limit = informative_limit(result)
    if result.directions.empty:
        return (result.latent["kl"] >= limit).astype(int).groupby(result.latent["epoch"]).sum()
    directions = result.directions
    copy = [is_copy(*pair) for pair in zip(directions["information"], directions["unique"], strict=True)]
    counted = (directions["unique"] >= limit) & ~np.array(copy)
    return counted.astype(int).groupby(directions["epoch"]).sum()


def informative_limit(result: Result) -> float:
    """Return the information in nats from which a dimension of the run counts."""
    beta = result.config.model.beta
    return informative_above(beta) if beta > 0 else 0.0


def kl_table(latent: pd.DataFrame) -> pd.DataFrame:
    """Return the KL divergence in nats: a row per neuron, longest kept first, a column per epoch; NaN once removed.

    `latent` is that of a `Result`.
    """
    table = latent.pivot_table(index="neuron", columns="epoch", values="kl")
    order = table.count(axis=1).sort_values(ascending=False, kind="stable").index
    return table.loc[order]


def kl_weights(result: Result) -> pd.Series[float]:
    """Return the weight of the KL divergence in the training loss at the end of each epoch; empty without warm-up."""
    training, beta = result.config.training, result.config.model.beta
    if training.warmup == 0:
        return pd.Series(dtype=float)
    return pd.Series({epoch: beta * training.warmed_up(epoch) for epoch in range(1, training.epochs + 1)})
