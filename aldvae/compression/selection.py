"""Which latent neurons to remove: at random, by KL divergence, or the last ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from aldvae.utils.errors import ArgumentError, unknown_message
from aldvae.utils.seeding import stream_seed


class Selection(Protocol):
    """Chooses which neurons to remove; each selection uses the arguments it needs and ignores the others."""

    def __call__(self, *, latent_dim: int, n: int, seed: int, epoch: int, kl: Sequence[float] | None) -> list[int]:
        """Return `n` different positions below `latent_dim`, in ascending order.

        `kl` holds the KL divergence of each dimension (latent_dim,) in nats, None if it was not measured.
        """


def select_random(*, latent_dim: int, n: int, seed: int, epoch: int, **_: object) -> list[int]:
    """Choose at random, from a stream of (seed, epoch) (the paper, section 3.3.1)."""
    random = np.random.default_rng(stream_seed(seed, "removal", epoch))
    return sorted(random.choice(latent_dim, n, replace=False).tolist())


def select_kl(*, latent_dim: int, n: int, kl: Sequence[float] | None, **_: object) -> list[int]:
    """Choose the dimensions with the lowest KL divergence to the prior (the paper's suggestion, section 3.3.1).

    Raises `ArgumentError` if `kl` does not hold a value for each dimension.
    """
    if kl is None or len(kl) != latent_dim:
        problem = f"must be the KL divergence of all {latent_dim} dimensions with select='kl'"
        raise ArgumentError("kl", f"{problem}, not {None if kl is None else f'of {len(kl)}'}")
    return sorted(np.argsort(np.asarray(kl, dtype=float), kind="stable")[:n].tolist())


def select_last(*, latent_dim: int, n: int, **_: object) -> list[int]:
    """Choose the last positions (the authors' code)."""
    return list(range(latent_dim - n, latent_dim))


SELECTIONS: dict[str, Selection] = {"random": select_random, "kl": select_kl, "last": select_last}


def selection(name: str) -> Selection:
    """Return the selection called `name`; raises `ArgumentError` with the nearest name if there is none."""
    if name not in SELECTIONS:
        raise ArgumentError("select", unknown_message(name, list(SELECTIONS)))
    return SELECTIONS[name]
