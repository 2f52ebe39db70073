"""The VAE and its networks; a network is an encoder and a decoder, registered here by name."""

from __future__ import annotations

from collections.abc import Callable

from aldvae.models import conv, mlp, video
from aldvae.models.likelihood import LIKELIHOODS
from aldvae.models.posterior import POSTERIORS
from aldvae.models.vae import VAE, Network

NETWORKS: dict[str, Callable[[tuple[int, ...], int | None, int | None], Network]] = {
    "mlp": mlp.build,
    "conv": conv.build,
    "video": video.build,
}


def build_vae(
    shape: tuple[int, ...],
    latent_dim: int,
    *,
    network: str,
    hidden_dim: int | None = None,
    channels: int | None = None,
    likelihood: str = "bernoulli",
    posterior: str = "gaussian",
) -> VAE:
    """Return a new VAE for samples of `shape`: (C, H, W), (C, T, H, W) or (D,).

    `hidden_dim` and `channels` are the network's widths (None: its own default); `likelihood` and `posterior` name what
    decoder and second head mean. Draws its weights from torch's global random state. Raises `ConfigError` where the
    network cannot take the shape or has no such width.
    """
    parts = NETWORKS[network](shape, hidden_dim, channels)
    return VAE(parts, latent_dim, LIKELIHOODS[likelihood](), POSTERIORS[posterior])
