"""The fully connected network (MNIST and FashionMNIST; the paper, section 4.1), also for vectors."""

from __future__ import annotations

import math

from torch import nn

from aldvae.models.vae import Network
from aldvae.utils.errors import ConfigError

HIDDEN_DIM = 400


def build(shape: tuple[int, ...], hidden_dim: int | None, channels: int | None) -> Network:
    """Return two hidden layers of `hidden_dim` ReLU units (default 400) on either side of the latent space.

    Raises `ConfigError` for `channels`, which this network does not have.
    """
    if channels is not None:
        raise ConfigError("channels", "means nothing to the mlp network; use --hidden-dim, or another --network")
    size, width = math.prod(shape), hidden_dim or HIDDEN_DIM
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(size, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    decoder = nn.Sequential(
        nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, size), nn.Unflatten(1, shape)
    )
    return Network(encoder, width, decoder, width)
