"""How much information each principal direction of the latent space carries, and how much of it is its own."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from aldvae.compression.consolidation import LatentStatistics
from aldvae.compression.rules.limits import WEAK, informative_above
from aldvae.utils.rounding import round_for_csv

# The neighbours of a sample say what the other directions know of it. Time grows with the square of the samples.
_NEIGHBOURS, _MOST_SAMPLES = 5, 1000


@dataclass(frozen=True)
class Directions:
    """The principal directions of a latent space, those with most information first.

    `information` is that of each direction in nats, as `LatentStatistics.information`. `unique` is the part of it that
    the directions before it do not carry already: a curved copy of one factor has much of the first and little of the
    second. Both have n_z values, rounded as in CSV files.
    """

    statistics: LatentStatistics
    information: tuple[float, ...]
    unique: tuple[float, ...]

    @classmethod
    @torch.no_grad()
    def measure(cls, mu: Tensor, log_var: Tensor, beta: float = 1.0) -> Directions:
        """Return the directions of posterior means and log-variances, each (N, n_z), of N samples.

        `unique` is estimated from the 5 nearest neighbours of each sample, on the first 1,000 samples at most. `beta`
        sets what counts as informative.
        """
        statistics = LatentStatistics.measure(mu, log_var)
        scores = statistics.scores(mu[:_MOST_SAMPLES])
        information = statistics.information
        unique = _unique(scores.float(), information, informative_above(beta), WEAK / sqrt(beta))
        return cls(statistics, _rounded(information), _rounded(torch.minimum(unique, information)))

    def copies(self, beta: float = 1.0) -> int:
        """Return how many directions are informative, but for the most part copies of stronger ones."""
        pairs = zip(self.information, self.unique, strict=True)
        return sum(total >= informative_above(beta) and unique < total / 2 for total, unique in pairs)


def _unique(scores: Tensor, information: Tensor, high: float, low: float) -> Tensor:
    """Return the unique information of each direction (n_z,); `scores` (N, n_z) are in units of the noise.

    A direction of which `high` nats or more are unique is one that the later ones are compared with.
    """
    unique = information.clone()
    neighbours = min(_NEIGHBOURS, len(scores) - 1)
    distances = torch.zeros(len(scores), len(scores))
    first = True
    for j, total in enumerate(information.tolist()):
        if total < low:
            break
        score = scores[:, j]
        if not first and neighbours > 0:
            nearest = distances.topk(neighbours + 1, largest=False).indices[:, 1:]
            # The mean of k neighbours has an error of its own, 1 / k of the variance.
            residual = (score - score[nearest].mean(1)).square().mean() * neighbours / (neighbours + 1)
            unique[j] = 0.5 * torch.log1p(residual.double())
        if min(float(unique[j]), total) >= high:
            distances += (score[:, None] - score).square()
            first = False
    return unique


def _rounded(values: Tensor) -> tuple[float, ...]:
    return tuple(round_for_csv(value) for value in values.tolist())
