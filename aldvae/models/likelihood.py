"""Decoder likelihoods: the distribution p(x|z) that the decoder's output parametrises."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Bernoulli(nn.Module):
    """Each pixel in [0, 1] is a Bernoulli variable and the decoder returns its logit (the paper's loss)."""

    def forward(self, decoded: Tensor, x: Tensor) -> Tensor:
        """Return the binary cross-entropy of x (B, *shape) in nats, summed over each sample: (B,)."""
        return F.binary_cross_entropy_with_logits(decoded, x, reduction="none").flatten(1).sum(1)

    def mean(self, decoded: Tensor) -> Tensor:
        """Return the mean of p(x|z), (B, *shape), for the decoder's output."""
        return decoded.sigmoid()


class Gaussian(nn.Module):
    """Each value is normally distributed around the decoder's output, with one standard deviation for all values.

    The standard deviation is learned. A fixed one would make the number of useful latent dimensions depend on the
    scale of the data.
    """

    # Without a lower bound, an exact reconstruction would drive the scale to zero and the likelihood to infinity.
    _MIN_LOG_SCALE = -5.0

    def __init__(self) -> None:
        """Initialise the standard deviation to 1."""
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, decoded: Tensor, x: Tensor) -> Tensor:
        """Return the negative log-density of x (B, *shape) in nats, summed over each sample: (B,); may be negative."""
        log_scale = self.log_scale.clamp(min=self._MIN_LOG_SCALE)
        squared = ((x - decoded) * torch.exp(-log_scale)).square()
        return (0.5 * (squared + math.log(2 * math.pi)) + log_scale).flatten(1).sum(1)

    def mean(self, decoded: Tensor) -> Tensor:
        """Return the mean of p(x|z), (B, *shape), for the decoder's output."""
        return decoded


Likelihood = Bernoulli | Gaussian
LIKELIHOODS: dict[str, type[Likelihood]] = {"bernoulli": Bernoulli, "gaussian": Gaussian}
