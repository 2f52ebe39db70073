"""The variational autoencoder: any encoder and decoder around two heads and one reader of the latent vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Network:
    """What another network must bring: how to turn inputs into features, and features into logits of inputs.

    `encoder` maps (B, *shape) to (B, encoder_dim); `decoder` maps (B, decoder_dim) to (B, *shape), before the
    sigmoid. The decoder's first layer is not part of it: it reads the latent vector, and belongs to the VAE.
    """

    encoder: nn.Module
    encoder_dim: int
    decoder: nn.Module
    decoder_dim: int


class Forward(NamedTuple):
    """One pass: `logits` (B, *shape) of the reconstruction, `mu` and `log_var` and the sample `z` (B, n_z)."""

    logits: Tensor
    mu: Tensor
    log_var: Tensor
    z: Tensor


class VAE(nn.Module):
    """A VAE with a diagonal Gaussian posterior and a standard normal prior (the paper, section 3.2).

    The latent vector is written by the heads `mu` and `log_var` and read by `reader` alone; these three linear layers
    are what a removal of latent neurons shrinks.
    """

    def __init__(self, network: Network, latent_dim: int) -> None:
        """Put heads and reader of size `latent_dim` around `network`."""
        super().__init__()
        self.encoder = network.encoder
        self.mu = nn.Linear(network.encoder_dim, latent_dim)
        self.log_var = nn.Linear(network.encoder_dim, latent_dim)
        self.reader = nn.Linear(latent_dim, network.decoder_dim)
        self.decoder = network.decoder

    @property
    def latent_dim(self) -> int:
        """The present latent size, n_z."""
        return self.reader.in_features

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map x (B, *shape) in [0, 1] to the posterior's mean and log-variance, each (B, n_z)."""
        features = self.encoder(x)
        return self.mu(features), self.log_var(features)

    def decode(self, z: Tensor) -> Tensor:
        """Map z (B, n_z) to logits (B, *shape); their sigmoid is the image."""
        logits: Tensor = self.decoder(self.reader(z))
        return logits

    def forward(self, x: Tensor, noise: Tensor) -> Forward:
        """Encode x (B, *shape), sample z with standard normal `noise` (B, n_z), decode."""
        mu, log_var = self.encode(x)
        z = mu + noise * torch.exp(0.5 * log_var)
        return Forward(self.decode(z), mu, log_var, z)


def recon_loss(logits: Tensor, x: Tensor) -> Tensor:
    """Return the binary cross-entropy of each input in nats, summed over its pixels: (B,)."""
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)


def kl_divergence(mu: Tensor, log_var: Tensor) -> Tensor:
    """Return KL(q(z|x) || N(0, 1)) of each input and dimension in nats: (B, n_z)."""
    return 0.5 * (mu.square() + log_var.exp() - 1.0 - log_var)
