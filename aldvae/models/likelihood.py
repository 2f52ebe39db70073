"""What the decoder's output means: the distribution p(x|z) of a sample."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Bernoulli(nn.Module):
    """Each pixel in [0, 1] is a Bernoulli variable; the decoder gives its logit (the paper's loss)."""

    def forward(self, decoded: Tensor, x: Tensor) -> Tensor:
        """Return the binary cross-entropy of x (B, *shape) in nats, summed over each sample: (B,)."""
        return F.binary_cross_entropy_with_logits(decoded, x, reduction="none").flatten(1).sum(1)

    def mean(self, decoded: Tensor) -> Tensor:
        """Return the expected sample (B, *shape)."""
        return decoded.sigmoid()


class Gaussian(nn.Module):
    """Each number is normally distributed around the decoder's output, all with one standard deviation.

    It is learned: with a fixed one, whoever scales the data decides how many latent dimensions pay.
    """

    # A decoder that is exact would drive the scale to zero and the likelihood to infinity.
    _MIN_LOG_SCALE = -5.0

    def __init__(self) -> None:
        """Start at a standard deviation of 1."""
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, decoded: Tensor, x: Tensor) -> Tensor:
        """Return the negative log-density of x (B, *shape) in nats, summed over each sample: (B,); may be negative."""
        log_scale = self.log_scale.clamp(min=self._MIN_LOG_SCALE)
        squared = ((x - decoded) * torch.exp(-log_scale)).square()
        return (0.5 * (squared + math.log(2 * math.pi)) + log_scale).flatten(1).sum(1)

    def mean(self, decoded: Tensor) -> Tensor:
        """Return the expected sample (B, *shape)."""
        return decoded


Likelihood = Bernoulli | Gaussian
LIKELIHOODS: dict[str, type[Likelihood]] = {"bernoulli": Bernoulli, "gaussian": Gaussian}
