"""How much information each principal direction of the latent space carries, and how much of it is its own."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from aldvae.compression.principal_directions import LatentStatistics
from aldvae.compression.rules.limits import WEAK, informative_above
from aldvae.utils.rounding import round_for_csv

# What the stronger directions tell of another is found by regression on their products and on random ReLU units, which
# resemble what a network computes, on at most so many samples. Nearest neighbours found 1 nat of a copy's own in 8
# dimensions, where neighbours are far; this finds 0.1.
_MOST_SAMPLES, _RELU_UNITS, _MOST_PRODUCTS = 1000, 128, 16
# A direction of which the others carry more than this fraction is a copy.
_COPIED = 0.5


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

        `unique` is estimated from the first 1,000 samples at most. `beta` sets what counts as informative.
        """
        statistics = LatentStatistics.measure(mu, log_var)
        scores = statistics.scores(mu[:_MOST_SAMPLES])
        information = statistics.information
        unique = _unique(scores, information, informative_above(beta), WEAK / sqrt(beta))
        return cls(statistics, _rounded(information), _rounded(unique))

    def own(self, beta: float = 1.0) -> tuple[float, ...]:
        """Return what a rule judges: `unique`, but 0 for a copy (n_z values).

        A copy is informative, but others carry more than half of its information.
        """
        copies = self._copies(beta)
        return tuple(0.0 if copy else unique for copy, unique in zip(copies, self.unique, strict=True))

    def copies(self, beta: float = 1.0) -> int:
        """Return the number of copies."""
        return sum(self._copies(beta))

    def _copies(self, beta: float) -> list[bool]:
        limit, pairs = informative_above(beta), zip(self.information, self.unique, strict=True)
        return [total >= limit and is_copy(total, unique) for total, unique in pairs]


def is_copy(total: float, unique: float) -> bool:
    """Return whether a direction with this information (nats) is a copy, given how much of it is its own."""
    return unique < (1 - _COPIED) * total


def _unique(scores: Tensor, information: Tensor, high: float, low: float) -> Tensor:
    """Return the unique information of each direction (n_z,); `scores` (N, n_z) are in units of the noise.

    An informative direction that is no copy is one that the later ones are compared with.
    """
    unique = information.clone()
    kept: list[int] = []
    for j, total in enumerate(information.tolist()):
        if total < low:
            break
        if kept and len(scores) > 1:
            residual = _unexplained(scores[:, kept], scores[:, j])
            unique[j] = min(total, float(0.5 * torch.log1p(residual)))
        if unique[j] >= high and not is_copy(total, float(unique[j])):
            kept.append(j)
    return unique


def _unexplained(inputs: Tensor, output: Tensor) -> Tensor:
    """Return the mean squared error (a scalar) of predicting `output` (N,) from `inputs` (N, k), each sample left out.

    It is the closed form of ridge regression.
    """
    features = _features(inputs / inputs.std(0))
    gram = features.T @ features
    gram.diagonal().add_(1.0)
    factor = torch.linalg.cholesky(gram)
    half = torch.linalg.solve_triangular(factor, features.T, upper=False)
    fitted = half.T @ (half @ output)
    leverage = half.square().sum(0)
    errors: Tensor = (output - fitted) / (1 - leverage).clamp(min=0.05)
    return errors.square().mean()


def _features(inputs: Tensor) -> Tensor:
    """Return a constant, `inputs` (N, k), their products, and random ReLU units of them, side by side."""
    n, k = inputs.shape
    units = min(_RELU_UNITS, n // 4)
    random = torch.Generator().manual_seed(0)
    weight, bias = (torch.randn(size, generator=random, dtype=inputs.dtype) for size in ((k, units), (units,)))
    strongest = inputs[:, :_MOST_PRODUCTS]
    products = [strongest[:, [j]] * strongest[:, j:] for j in range(strongest.shape[1])]
    relu = torch.relu(inputs @ (weight / weight.norm(dim=0)) + bias)
    return torch.cat([torch.ones(n, 1, dtype=inputs.dtype), inputs, *products, relu], 1)


def _rounded(values: Tensor) -> tuple[float, ...]:
    return tuple(round_for_csv(value) for value in values.tolist())
