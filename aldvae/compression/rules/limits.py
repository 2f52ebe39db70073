"""What counts as information: the limits that rules and measurements share."""

from __future__ import annotations

from math import sqrt

# A direction with less information than this (nats) is idle. At beta 1 the information k of a dimension is worth about
# k^2 nats of the objective when k is small: 0.01 nats here. With another beta, it is worth beta k^2.
INFORMATIVE = 0.1
# Below this (nats) a direction cannot be told from the noise of the estimate.
WEAK = 0.01


def informative_above(beta: float) -> float:
    """Return the information in nats from which a direction is informative if the KL divergence is weighted `beta`."""
    return INFORMATIVE / sqrt(beta)
