"""The Fréchet distance between two sets of features, each approximated by a Gaussian."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from aldvae.utils.devices import to_float64
from aldvae.utils.files import write_cached

# Part of the cache key: increase it whenever the statistics change.
VERSION = 1


@dataclass(frozen=True)
class Statistics:
    """The mean (D,) of a set of features and a factor F (R, D) of its covariance, S = F^T F; both float64."""

    mean: Tensor
    factor: Tensor

    def to(self, device: torch.device) -> Statistics:
        """Return the statistics on `device`, which must support float64."""
        return Statistics(self.mean.to(device), self.factor.to(device))


def cached_statistics(cache_dir: Path, key: str, compute: Callable[[], Statistics]) -> Statistics:
    """Return the statistics cached as `key` under `cache_dir`, on the CPU; if missing or damaged, `compute` them.

    `key` must identify everything that they depend on besides this module. Several processes may call it at once,
    because all write the same content.
    """
    path = cache_dir / "statistics" / f"v{VERSION}-{key}.safetensors"
    try:
        stored = load_file(path)
        return Statistics(stored["mean"], stored["factor"])
    except (OSError, SafetensorError, KeyError):
        computed = compute()
    cpu = Statistics(computed.mean.cpu().contiguous(), computed.factor.cpu().contiguous())
    write_cached(path, save({"mean": cpu.mean, "factor": cpu.factor}))
    return cpu


def statistics(features: Tensor) -> Statistics:
    """Return the statistics of `features` (N, D), on their device if it supports float64.

    If N <= D, the factor is the centred features over sqrt(N - 1). If N > D, it is computed from the eigenvalues and
    eigenvectors of the covariance, because that factor, (D, D), is smaller. Raises `ValueError` if N < 2.
    """
    n, d = features.shape
    if n < 2:
        raise ValueError(f"a covariance needs 2 samples or more, not {n}")
    features = to_float64(features)
    mean = features.mean(0)
    factor = (features - mean) / (n - 1) ** 0.5
    if n > d:
        values, vectors = torch.linalg.eigh(factor.T @ factor)
        factor = values.clamp(min=0).sqrt().unsqueeze(1) * vectors.T
    return Statistics(mean, factor)


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Return |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2), which is never negative.

    The last trace is the nuclear norm of F1 F2^T, whose squared singular values are the eigenvalues of S1 S2. `a` and
    `b` must be on the same device.
    """
    cross = torch.linalg.svdvals(a.factor @ b.factor.T).sum()
    value = (a.mean - b.mean).square().sum() + a.factor.square().sum() + b.factor.square().sum() - 2 * cross
    return max(float(value), 0.0)
