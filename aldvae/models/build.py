"""Build a VAE from names. A network, which is an encoder and a decoder, is registered here."""

from __future__ import annotations

from collections.abc import Callable

from aldvae.models import conv, mlp, video
from aldvae.models.likelihood import build_likelihood
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
    scale: str = "learned",
    posterior: str = "gaussian",
) -> VAE:
    """Return a new VAE for samples of `shape`: (C, H, W), (C, T, H, W) or (D,).

    `hidden_dim` and `channels` are the widths of the network (None: its default). `likelihood` interprets the decoder's
    output, with `scale` if it is Gaussian, and `posterior` the second head's; all three are names. Initial weights come
    from torch's global random state. Raises `ArgumentError` if the network does not support the shape or has no such
    width.
    """
    parts = NETWORKS[network](shape, hidden_dim, channels)
    model = VAE(parts, latent_dim, build_likelihood(likelihood, scale), POSTERIORS[posterior])
    model.shape = shape
    return model
