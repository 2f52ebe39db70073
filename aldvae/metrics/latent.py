"""What each latent dimension does."""

from __future__ import annotations

from torch import Tensor

ACTIVE_VARIANCE = 0.01


def active_units(mu: Tensor) -> int:
    """Count the dimensions of posterior means mu (N, n_z) whose variance over images is above 0.01."""
    return int((mu.var(dim=0) > ACTIVE_VARIANCE).sum())
