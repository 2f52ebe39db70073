"""Losses that are averaged instead of summed, in the units that rules expect: nats per sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass, replace

from aldvae.compression.rules.base import AnyRule
from aldvae.utils.errors import ArgumentError


@dataclass(frozen=True, kw_only=True)
class Units:
    """How the losses of a training loop are averaged.

    `values` is the number of values of a sample (pixels times channels) over which the reconstruction loss is averaged,
    1 if it is summed. With `mean_kl`, the KL divergence in the loss is averaged over the latent dimensions; the `kl` of
    each dimension is in nats in any case. All losses are averaged over samples.

    A rule's `beta` is then the weight in that loss: minimising ``mean(recon) + beta * mean(kl)`` is minimising
    ``sum(recon) + beta * values / n_z * sum(kl)``.

    Raises `ArgumentError` if `values` is less than 1.
    """

    values: int = 1
    mean_kl: bool = False

    def __post_init__(self) -> None:
        """Check the number of values."""
        if self.values < 1:
            raise ArgumentError("values", f"must be 1 or more, not {self.values}")

    def metrics_in_nats(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return `metrics` with `recon_loss` in nats per sample."""
        if "recon_loss" not in metrics:
            return dict(metrics)
        return {**metrics, "recon_loss": metrics["recon_loss"] * self.values}

    def rule_in_nats(self, rule: AnyRule, latent_dim: int) -> AnyRule:
        """Return `rule` with its `beta` for losses in nats per sample, at the size `latent_dim`."""
        factor = self.values / (latent_dim if self.mean_kl else 1)
        if factor == 1 or not hasattr(rule, "beta") or not is_dataclass(rule):
            return rule
        return replace(rule, beta=rule.beta * factor)


# The usual case.
SUMMED = Units()
