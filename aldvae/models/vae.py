"""The variational autoencoder: any encoder and decoder around two heads and one reader of the latent vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aldvae.models.likelihood import Likelihood
from aldvae.models.posterior import Posterior, gaussian


@dataclass(frozen=True)
class Network:
    """What another network must bring: how to turn samples into features, and features into samples.

    `encoder` maps (B, *shape) to (B, encoder_dim); `decoder` maps (B, decoder_dim) to (B, *shape), which the
    likelihood interprets (as logits, or as means). The decoder's first layer is not part of it: it reads the latent
    vector, and belongs to the VAE.
    """

    encoder: nn.Module
    encoder_dim: int
    decoder: nn.Module
    decoder_dim: int


class VAEOutput(NamedTuple):
    """One pass: `decoded` (B, *shape), `mu` and `log_var` of the posterior and its sample `z`, each (B, n_z)."""

    decoded: Tensor
    mu: Tensor
    log_var: Tensor
    z: Tensor


class VAE(nn.Module):
    """A VAE with a diagonal Gaussian posterior and a standard normal prior (the paper, section 3.2).

    The latent vector is written by the heads `mu` and `log_var` and read by `reader` alone; these three linear layers
    are what a removal of latent neurons shrinks. `posterior` turns what the second head writes into log-variances.
    """

    def __init__(
        self, network: Network, latent_dim: int, likelihood: Likelihood, posterior: Posterior = gaussian
    ) -> None:
        """Put heads and reader of size `latent_dim` around `network`."""
        super().__init__()
        self.encoder = network.encoder
        self.mu = nn.Linear(network.encoder_dim, latent_dim)
        self.log_var = nn.Linear(network.encoder_dim, latent_dim)
        self.reader = nn.Linear(latent_dim, network.decoder_dim)
        self.decoder = network.decoder
        self.likelihood, self.posterior = likelihood, posterior
        self.register_buffer("input_mean", None)
        self.register_buffer("input_scale", None)

    input_mean: Tensor | None
    input_scale: Tensor | None

    def standardise(self, raw: Tensor) -> Tensor:
        """Bring vectors (B, D) in the user's units to the mean 0 and deviation 1 that the model was trained on.

        Samples of a model that was not trained on standardised vectors are returned as they are.
        """
        if self.input_mean is None or self.input_scale is None:
            return raw
        return (raw - self.input_mean) / self.input_scale

    def restore(self, x: Tensor) -> Tensor:
        """Undo `standardise`: bring reconstructed or generated vectors (B, D) to the user's units."""
        if self.input_mean is None or self.input_scale is None:
            return x
        return x * self.input_scale + self.input_mean

    @property
    def latent_dim(self) -> int:
        """The present latent size, n_z."""
        return self.reader.in_features

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map x (B, *shape) to the posterior's mean and log-variance, each (B, n_z)."""
        features = self.encoder(x)
        return self.mu(features), self.posterior(self.log_var(features))

    def decode(self, z: Tensor) -> Tensor:
        """Map z (B, n_z) to what the likelihood interprets, (B, *shape)."""
        decoded: Tensor = self.decoder(self.reader(z))
        return decoded

    def generate(self, z: Tensor) -> Tensor:
        """Map z (B, n_z) to the expected samples (B, *shape): images in [0, 1], or standardised vectors."""
        return self.likelihood.mean(self.decode(z))

    def forward(self, x: Tensor, noise: Tensor) -> VAEOutput:
        """Encode x (B, *shape), sample z with standard normal `noise` (B, n_z), decode."""
        mu, log_var = self.encode(x)
        z = mu + noise * torch.exp(0.5 * log_var)
        return VAEOutput(self.decode(z), mu, log_var, z)

    def loss(self, x: Tensor, noise: Tensor, beta: float) -> Tensor:
        """Return the negative ELBO with weight `beta` of the KL divergence, in nats per sample; see `forward`."""
        out = self(x, noise)
        # Sums over a sample of many small numbers are no place for half precision.
        kl = kl_divergence(out.mu.float(), out.log_var.float())
        loss: Tensor = (self.likelihood(out.decoded.float(), x).sum() + beta * kl.sum()) / len(x)
        return loss


def kl_divergence(mu: Tensor, log_var: Tensor) -> Tensor:
    """Return KL(q(z|x) || N(0, 1)) of each sample and dimension in nats: (B, n_z)."""
    return 0.5 * (mu.square() + log_var.exp() - 1.0 - log_var)
