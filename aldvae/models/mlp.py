"""The fully connected network (MNIST and FashionMNIST; the paper, section 4.1)."""

from __future__ import annotations

import math

from torch import nn

from aldvae.models.vae import Network


def build(shape: tuple[int, ...], hidden_dim: int) -> Network:
    """Return two hidden layers of `hidden_dim` ReLU units on either side of the latent space."""
    size = math.prod(shape)
    encoder = nn.Sequential(
        nn.Flatten(),
        nn.Linear(size, hidden_dim),
        nn.ReLU(),
        nn.Linear(hidden_dim, hidden_dim),
        nn.ReLU(),
    )
    decoder = nn.Sequential(
        nn.ReLU(),
        nn.Linear(hidden_dim, hidden_dim),
        nn.ReLU(),
        nn.Linear(hidden_dim, size),
        nn.Unflatten(1, shape),
    )
    return Network(encoder, hidden_dim, decoder, hidden_dim)
