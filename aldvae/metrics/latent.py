"""What each latent dimension does."""

from __future__ import annotations

from torch import Tensor

from aldvae.utils.devices import to_float64

ACTIVE_VARIANCE = 0.01
# A posterior variance below this is told from the prior's, 1; and so many of the samples make a dimension's kind.
_USED_VARIANCE = 0.9
_NEARLY_ALL = 0.95


def active_units(mu: Tensor) -> int:
    """Count the dimensions of posterior means mu (N, n_z) whose variance over samples is above 0.01."""
    return int((mu.var(dim=0) > ACTIVE_VARIANCE).sum())


def count_dimension_usage(log_var: Tensor) -> dict[str, int]:
    """Count the dimensions by the samples that use them, given the posterior log-variances (N, n_z).

    A sample uses a dimension if its posterior variance there is below 0.9. ``dims_active`` are used by at least 95% of
    the samples, ``dims_passive`` by at most 5%, ``dims_mixed`` by some.
    """
    used = to_float64(log_var.exp() < _USED_VARIANCE).mean(dim=0)
    active, passive = int((used >= _NEARLY_ALL).sum()), int((used <= 1 - _NEARLY_ALL).sum())
    return {"dims_active": active, "dims_mixed": len(used) - active - passive, "dims_passive": passive}
