"""The principal directions of the posterior means, and the change of basis to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LatentStatistics:
    """The posterior over validation samples: `mean` (n_z,) and `covariance` (n_z, n_z) of its means, in float64.

    `variance` (n_z,) is the mean of its variances, the noise that the means are measured in. All lie on the CPU.
    """

    mean: Tensor
    covariance: Tensor
    variance: Tensor

    @classmethod
    def measure(cls, mu: Tensor, log_var: Tensor) -> LatentStatistics:
        """Return the statistics of posterior means and log-variances, each (N, n_z), of N samples."""
        mu = mu.detach().cpu().double()
        mean = mu.mean(0)
        centred = mu - mean
        return cls(mean, centred.T @ centred / len(mu), log_var.detach().cpu().double().exp().mean(0))

    @property
    def information(self) -> Tensor:
        """The information of each principal direction in nats (n_z,), largest first: 0.5 log(1 + signal / noise)."""
        return 0.5 * torch.log1p(self._principal()[0])

    def _principal(self) -> tuple[Tensor, Tensor]:
        """Return signal-to-noise ratios (n_z,), largest first, and the directions as columns (n_z, n_z)."""
        noise = self.variance.rsqrt()
        ratios, directions = torch.linalg.eigh(self.covariance * noise[:, None] * noise)
        return ratios.flip(0).clamp(min=0), directions.flip(1)

    def scores(self, mu: Tensor) -> Tensor:
        """Return posterior means (N, n_z) along the principal directions, in units of the noise: (N, n_z), float64."""
        centred = mu.detach().cpu().double() - self.mean
        return centred * self.variance.rsqrt() @ self._principal()[1]

    def basis(self, keep: Sequence[int]) -> Basis:
        """Return the change of basis to the principal directions at the k positions `keep`, 0 being the first."""
        ratios, directions = self._principal()
        index = torch.tensor(keep, dtype=torch.long)
        scale, directions = (1 + ratios[index]).rsqrt(), directions[:, index]
        forward = scale[:, None] * directions.T * self.variance.rsqrt()
        backward = self.variance.sqrt()[:, None] * directions / scale
        log_noise = 2 * scale.log() - directions.T.square() @ self.variance.log()
        return Basis(forward, backward, directions.T.square(), log_noise, self.mean)


@dataclass(frozen=True)
class Basis:
    """A change of basis from n_z to k dimensions.

    New means are `forward` (k, n_z) times the old ones less `mean` (n_z,); `backward` (n_z, k) undoes that. New
    log-variances are `mixing` (k, n_z) times the old ones, plus `log_noise` (k,): the variance of a direction is the
    weighted geometric mean of the variances that it mixes. Over the samples, each new dimension has mean 0 and, with
    its noise, variance 1, like the prior.
    """

    forward: Tensor
    backward: Tensor
    mixing: Tensor
    log_noise: Tensor
    mean: Tensor
