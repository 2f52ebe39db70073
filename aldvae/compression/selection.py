"""Which latent neurons go: positions chosen at random, by KL divergence, or from the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from aldvae.utils.errors import ArgumentError, unknown
from aldvae.utils.seeding import stream_seed


def select_random(latent_dim: int, n: int, seed: int, epoch: int, kl: Sequence[float] | None) -> list[int]:  # noqa: ARG001
    """Choose at random, from a stream of (seed, epoch) (the paper, section 3.3.1)."""
    random = np.random.default_rng(stream_seed(seed, "removal", epoch))
    return sorted(random.choice(latent_dim, n, replace=False).tolist())


def select_kl(latent_dim: int, n: int, seed: int, epoch: int, kl: Sequence[float] | None) -> list[int]:  # noqa: ARG001
    """Choose the dimensions with the lowest KL divergence to the prior (the paper's suggestion, section 3.3.1)."""
    if kl is None or len(kl) != latent_dim:
        problem = f"must be the KL divergence of all {latent_dim} dimensions with select='kl'"
        raise ArgumentError("kl", f"{problem}, not {None if kl is None else f'of {len(kl)}'}")
    return sorted(np.argsort(np.asarray(kl, dtype=float), kind="stable")[:n].tolist())


def select_last(latent_dim: int, n: int, seed: int, epoch: int, kl: Sequence[float] | None) -> list[int]:  # noqa: ARG001
    """Choose the last positions (the authors' code)."""
    return list(range(latent_dim - n, latent_dim))


Selection = Callable[[int, int, int, int, Sequence[float] | None], list[int]]
SELECTIONS: dict[str, Selection] = {"random": select_random, "kl": select_kl, "last": select_last}


def selection(name: str) -> Selection:
    """Return the selection called `name`: (latent_dim, n, seed, epoch, kl) to n sorted positions to remove.

    Raises `ArgumentError` with the nearest name where there is none.
    """
    if name not in SELECTIONS:
        raise ArgumentError("select", unknown(name, list(SELECTIONS)))
    return SELECTIONS[name]
