"""How many latent dimensions are used."""

from __future__ import annotations

from torch import Tensor

from aldvae.utils.devices import to_float64

ACTIVE_VARIANCE = 0.01
# A sample uses a dimension if its posterior variance is below this (prior: 1).
_USED_VARIANCE = 0.9
# A dimension is active if at least this fraction of the samples uses it.
_NEARLY_ALL = 0.95


def active_units(mu: Tensor) -> int:
    """Return how many dimensions of the posterior means mu (N, n_z) have a variance over samples above 0.01."""
    return int((mu.var(dim=0) > ACTIVE_VARIANCE).sum())


def count_dimension_usage(log_var: Tensor) -> dict[str, int]:
    """Return the numbers of active, mixed and passive dimensions for posterior log-variances (N, n_z).

    A sample uses a dimension if its posterior variance is below 0.9. A dimension is active if at least 95% of the
    samples use it, passive if at most 5% do, and mixed otherwise. The keys are names of CSV columns.
    """
    used = to_float64(log_var.exp() < _USED_VARIANCE).mean(dim=0)
    active, passive = int((used >= _NEARLY_ALL).sum()), int((used <= 1 - _NEARLY_ALL).sum())
    return {"dims_active": active, "dims_mixed": len(used) - active - passive, "dims_passive": passive}
