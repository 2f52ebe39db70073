"""The VAE and its networks; a network is an encoder and a decoder, registered here by name."""

from __future__ import annotations

from collections.abc import Callable

from aldvae.models import mlp
from aldvae.models.vae import VAE, Network

NETWORKS: dict[str, Callable[[tuple[int, ...], int], Network]] = {"mlp": mlp.build}


def build_vae(network: str, shape: tuple[int, ...], hidden_dim: int, latent_dim: int) -> VAE:
    """Return a new VAE for inputs of `shape` (C, H, W) on `network`, `hidden_dim` wide.

    Draws its weights from torch's global random state.
    """
    return VAE(NETWORKS[network](shape, hidden_dim), latent_dim)
