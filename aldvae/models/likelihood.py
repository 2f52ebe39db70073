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


# Without a lower bound, an exact reconstruction would drive the scale to zero and the likelihood to infinity.
_MIN_LOG_SCALE = -5.0


def _gaussian_nll(decoded: Tensor, x: Tensor, log_scale: Tensor) -> Tensor:
    """Return the negative log-density of x around `decoded`, both (B, *shape), in nats, summed over each sample."""
    log_scale = log_scale.clamp(min=_MIN_LOG_SCALE)
    squared = ((x - decoded) * torch.exp(-log_scale)).square()
    return (0.5 * (squared + math.log(2 * math.pi)) + log_scale).flatten(1).sum(1)


class Gaussian(nn.Module):
    """Each value is normally distributed around the decoder's output, with one standard deviation for all values.

    The standard deviation is learned. A fixed one would make the number of useful latent dimensions depend on the
    scale of the data.
    """

    def __init__(self) -> None:
        """Initialise the standard deviation to 1."""
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, decoded: Tensor, x: Tensor) -> Tensor:
        """Return the negative log-density of x (B, *shape) in nats, summed over each sample: (B,); may be negative."""
        return _gaussian_nll(decoded, x, self.log_scale)

    def mean(self, decoded: Tensor) -> Tensor:
        """Return the mean of p(x|z), (B, *shape), for the decoder's output."""
        return decoded


class OptimalGaussian(nn.Module):
    """A Gaussian likelihood whose variance is not learned: it is the mean squared error, in closed form.

    No other variance has a higher likelihood (Rybkin, Daniilidis and Levine 2021, "Simple and effective VAE training
    with calibrated decoders"). A learned one takes many epochs to come down to it, and until then hardly any dimension
    is worth its KL divergence.

    In training, it is the error of the batch. In evaluation, it is an exponential average over the last batches of
    training: the error of one batch is noisy, and the density of a sample must not depend on the samples beside it. It
    is too small for other samples if those of training are few; `refit` returns a loss with the variance of the others.

    Contributions to the average are (`span` - 1) / 2 batches old on average, like those to a mean of `span` batches.
    The buffers are the sums behind the average, `squared_error` and `n_values`. Both decay alike, so that it is
    unbiased from the first batch on, and the smaller last batch of an epoch weighs less.
    """

    squared_error: Tensor
    n_values: Tensor

    def __init__(self, span: int = 100) -> None:
        """Initialise the variance to 1, which the first batch replaces."""
        super().__init__()
        self.span = span
        # As if next to no value had been seen: the ratio is 1, and float32 rounds it away beside a single value.
        self.register_buffer("squared_error", torch.tensor(1e-12))
        self.register_buffer("n_values", torch.tensor(1e-12))

    def forward(self, decoded: Tensor, x: Tensor) -> Tensor:
        """Return the negative log-density of x (B, *shape) in nats, summed over each sample: (B,); may be negative.

        In training mode, also adds the batch to the average.
        """
        if not self.training:
            return _gaussian_nll(decoded, x, 0.5 * (self.squared_error / self.n_values).log())
        # The variance needs no gradient: at its optimum, the loss does not change with it. The squared errors alone
        # have the gradient of N/2 log(mse), for N values.
        squared_error = (x - decoded).detach().square().sum()
        self._average(squared_error, x.numel())
        return _gaussian_nll(decoded, x, 0.5 * (squared_error / x.numel()).log())

    def refit(self, loss: Tensor, n_values: int) -> Tensor:
        """Return a mean `loss` () over samples of `n_values` values, with the variance that is optimal for these.

        `loss` is the mean of what `forward` returned for them in evaluation mode.
        """
        variance = (self.squared_error / self.n_values).to(loss).clamp(min=math.exp(2 * _MIN_LOG_SCALE))
        error = variance * (2 * loss / n_values - (2 * math.pi * variance).log())
        optimal = error.clamp(min=math.exp(2 * _MIN_LOG_SCALE))
        return 0.5 * n_values * (error / optimal + (2 * math.pi * optimal).log())

    def _average(self, squared_error: Tensor, n_values: int) -> None:
        decay = 1 - 2 / (self.span + 1)
        self.squared_error.mul_(decay).add_(squared_error)
        self.n_values.mul_(decay).add_(n_values)

    def mean(self, decoded: Tensor) -> Tensor:
        """Return the mean of p(x|z), (B, *shape), for the decoder's output."""
        return decoded


Likelihood = Bernoulli | Gaussian | OptimalGaussian
LIKELIHOODS: dict[str, type[Likelihood]] = {"bernoulli": Bernoulli, "gaussian": Gaussian}
# What a Gaussian likelihood is, by the name of its scale.
SCALES: dict[str, type[Likelihood]] = {"learned": Gaussian, "optimal": OptimalGaussian}


def build_likelihood(name: str, scale: str) -> Likelihood:
    """Return a new likelihood by name; only a Gaussian one has a `scale`."""
    return SCALES[scale]() if name == "gaussian" else LIKELIHOODS[name]()
