"""The Fréchet distance of two sets of features, each seen as a Gaussian: statistics, then value."""

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

# Part of the cache's key: raise it whenever the statistics change.
VERSION = 1


@dataclass(frozen=True)
class Statistics:
    """Mean (D,) and a factor F (R, D) of the covariance, S = F^T F, of D features; both float64."""

    mean: Tensor
    factor: Tensor

    def to(self, device: torch.device) -> Statistics:
        """Return them on `device`, which must know float64."""
        return Statistics(self.mean.to(device), self.factor.to(device))


def cached_statistics(cache_dir: Path, key: str, compute: Callable[[], Statistics]) -> Statistics:
    """Return the statistics kept as `key` under `cache_dir`; `compute` them where there are none or they are damaged.

    They are on the CPU. `key` must name everything they depend on but this file. Safe with several processes: each
    writes the same.
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
    """Return the statistics of `features` (N, D), N at least 2 (else `ValueError`).

    With no more images than features the centred features over sqrt(N - 1) are the factor; with more, the symmetric
    square root of the covariance by its eigenvalues is, which is smaller. They stay on the features' device if it knows
    float64.
    """
    n, d = features.shape
    if n < 2:
        raise ValueError(f"a covariance needs 2 images or more, not {n}")
    features = to_float64(features)
    mean = features.mean(0)
    factor = (features - mean) / (n - 1) ** 0.5
    if n > d:
        values, vectors = torch.linalg.eigh(factor.T @ factor)
        factor = values.clamp(min=0).sqrt().unsqueeze(1) * vectors.T
    return Statistics(mean, factor)


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Return |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2), never negative; `a` and `b` are on one device.

    The last trace is the nuclear norm of F1 F2^T: its squared singular values are the eigenvalues of S1 S2.
    """
    cross = torch.linalg.svdvals(a.factor @ b.factor.T).sum()
    value = (a.mean - b.mean).square().sum() + a.factor.square().sum() + b.factor.square().sum() - 2 * cross
    return max(float(value), 0.0)
