"""The variational autoencoder: an encoder, two heads, a reader of the latent vector, and a decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aldvae.models.likelihood import Likelihood
from aldvae.models.posterior import Posterior, gaussian


@dataclass(frozen=True)
class Network:
    """The encoder and decoder of a VAE, without the layers that depend on the latent size.

    `encoder` maps samples (B, *shape) to features (B, encoder_dim). `decoder` maps features (B, decoder_dim) to the
    parameters of the likelihood, (B, *shape): logits or means. The layer that reads the latent vector belongs to `VAE`.
    """

    encoder: nn.Module
    encoder_dim: int
    decoder: nn.Module
    decoder_dim: int


class VAEOutput(NamedTuple):
    """The decoder's output `decoded` (B, *shape); the posterior's `mu`, `log_var` and sample `z`, each (B, n_z)."""

    decoded: Tensor
    mu: Tensor
    log_var: Tensor
    z: Tensor


class VAE(nn.Module):
    """A VAE with a diagonal Gaussian posterior and a standard normal prior (the paper, section 3.2).

    Only three linear layers depend on the latent size: the heads `mu` and `log_var`, and `reader`, the first layer of
    the decoder. Removing latent neurons shrinks these. `posterior` maps the output of the second head to log-variances.

    Three attributes say what the training samples looked like: `shape`, that of a sample, (C, H, W), (C, T, H, W) or
    (D,), which `build_vae` sets; `columns`, the names in a table's header, if it had one; and `unit_pixels`, whether
    images were numbers in [0, 1] rather than whole numbers in 0..255.
    """

    shape: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()
    unit_pixels: bool = False

    def __init__(
        self, network: Network, latent_dim: int, likelihood: Likelihood, posterior: Posterior = gaussian
    ) -> None:
        """Add heads and a reader of size `latent_dim` to `network`."""
        super().__init__()
        self.encoder = network.encoder
        self.mu = nn.Linear(network.encoder_dim, latent_dim)
        self.log_var = nn.Linear(network.encoder_dim, latent_dim)
        self.reader = nn.Linear(latent_dim, network.decoder_dim)
        self.decoder = network.decoder
        self.likelihood, self.posterior = likelihood, posterior
        self.register_buffer("input_mean", None)
        self.register_buffer("input_scale", None)
        self.register_buffer("pixel_mean", None)
        self.register_buffer("pixel_scale", None)

    input_mean: Tensor | None
    input_scale: Tensor | None
    pixel_mean: Tensor | None
    pixel_scale: Tensor | None

    def standardise_pixels(self, mean: Tensor, scale: Tensor) -> None:
        """Let the networks of a fresh model work on images or video of mean 0 and standard deviation 1.

        `mean` () and `scale` () are those of all values of the training samples. What goes into the model and comes out
        stays in [0, 1], and its loss in nats of these units.
        """
        self.pixel_mean, self.pixel_scale = mean, scale
        # Posterior scales of exp(-2): at 1, as in the prior, the first reconstructions see little but noise.
        nn.init.constant_(self.log_var.bias, -4.0)

    def standardise(self, raw: Tensor) -> Tensor:
        """Scale vectors (B, D) in the user's units as the training samples were: to mean 0, standard deviation 1.

        Images and video are returned unchanged.
        """
        if self.input_mean is None or self.input_scale is None:
            return raw
        return (raw - self.input_mean) / self.input_scale

    def restore(self, x: Tensor) -> Tensor:
        """Undo `standardise`: return reconstructed or generated vectors (B, D) in the user's units."""
        if self.input_mean is None or self.input_scale is None:
            return x
        return x * self.input_scale + self.input_mean

    @property
    def latent_dim(self) -> int:
        """The current latent size, n_z."""
        return self.reader.in_features

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the posterior q(z|x), each (B, n_z), for samples x (B, *shape)."""
        if self.pixel_mean is not None and self.pixel_scale is not None:
            x = (x - self.pixel_mean) / self.pixel_scale
        features = self.encoder(x)
        return self.mu(features), self.posterior(self.log_var(features))

    def decode(self, z: Tensor) -> Tensor:
        """Return the parameters of the likelihood (B, *shape), logits or means, for latent vectors z (B, n_z)."""
        decoded: Tensor = self.decoder(self.reader(z))
        if self.pixel_mean is not None and self.pixel_scale is not None:
            decoded = decoded * self.pixel_scale + self.pixel_mean
        return decoded

    def generate(self, z: Tensor) -> Tensor:
        """Return the mean samples (B, *shape) for z (B, n_z): images or video in [0, 1], or standardised vectors."""
        return self.likelihood.mean(self.decode(z))

    def forward(self, x: Tensor, noise: Tensor) -> VAEOutput:
        """Encode x (B, *shape), sample z with standard normal `noise` (B, n_z), and decode z."""
        mu, log_var = self.encode(x)
        z = mu + noise * torch.exp(0.5 * log_var)
        return VAEOutput(self.decode(z), mu, log_var, z)

    def loss(self, x: Tensor, noise: Tensor, beta: float) -> Tensor:
        """Return the batch's mean negative ELBO in nats, with the KL divergence weighted by `beta`; see `forward`."""
        out = self(x, noise)
        # Float32 because half precision would lose small terms of these sums.
        kl = kl_divergence(out.mu.float(), out.log_var.float())
        loss: Tensor = (self.likelihood(out.decoded.float(), x).sum() + beta * kl.sum()) / len(x)
        return loss


def kl_divergence(mu: Tensor, log_var: Tensor) -> Tensor:
    """Return KL(q(z|x) || N(0, 1)) in nats for each sample and dimension, (B, n_z)."""
    return 0.5 * (mu.square() + log_var.exp() - 1.0 - log_var)
