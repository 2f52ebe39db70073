"""The fully connected network, for MNIST and FashionMNIST (the paper, section 4.1) and for vectors."""

from __future__ import annotations

import math

from torch import nn

from aldvae.models.vae import Network
from aldvae.utils.errors import ArgumentError

HIDDEN_DIM = 400


def build(shape: tuple[int, ...], hidden_dim: int | None, channels: int | None) -> Network:
    """Return an encoder and a decoder of two hidden layers each, with `hidden_dim` ReLU units (None: 400).

    `shape` may be any; samples are flattened. Raises `ArgumentError` for `channels`, which this network does not have.
    """
    if channels is not None:
        raise ArgumentError("channels", "has no effect with the mlp network; use hidden_dim, or another network")
    size, width = math.prod(shape), hidden_dim or HIDDEN_DIM
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(size, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    decoder = nn.Sequential(
        nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, size), nn.Unflatten(1, shape)
    )
    return Network(encoder, width, decoder, width)
