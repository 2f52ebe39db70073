"""The intrinsic dimension of data: of the manifold near which the samples lie, seen from the distances between them."""

from __future__ import annotations

import math

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from aldvae.data.dataset import Samples, to_float
from aldvae.utils.devices import limit_new_threadpools

_MAX_SAMPLES = 2000
# For long samples, such as video, fewer of them: seconds of work and 200 MB of memory.
_MAX_VALUES = 50_000_000
# The largest ratios of distances belong to samples in sparse regions. Facco et al. leave out a tenth.
_KEPT = 0.9


def estimate_dimension(samples: Samples) -> float:
    """Return `two_nn` of the first samples, at most 2,000 and 50 million values of them; they must be shuffled."""
    n_samples = min(_MAX_SAMPLES, max(3, _MAX_VALUES // math.prod(samples.shape)))
    with limit_new_threadpools():
        return two_nn(to_float(samples.on(torch.device("cpu"))[:n_samples]).flatten(1).numpy())


def two_nn(x: np.ndarray) -> float:
    """Return the intrinsic dimension of samples x (N, D) by TwoNN (Facco, d'Errico, Rodriguez and Laio 2017).

    Let r be the distance of a sample's second neighbour divided by that of its first. Where the density is locally
    constant on a manifold of d dimensions, P(r > t) = t^-d. So d is the slope, through the origin, of -log(1 - F)
    against log r, where F is the empirical distribution function. Copies of a sample count once. Fewer than three
    different samples have dimension 0. If all samples are equally far apart, the dimension is infinite.
    """
    x = np.unique(x, axis=0)
    if len(x) < 3:
        return 0.0
    distances, _ = NearestNeighbors(n_neighbors=2).fit(x).kneighbors()
    # Different samples may be so close together that their distance is rounded to 0.
    first, second = distances[distances[:, 0] > 0].T
    log_ratio = np.sort(np.log(second / first))
    n_kept = int(_KEPT * len(log_ratio))
    log_ratio, expected = log_ratio[:n_kept], -np.log1p(-np.arange(1, n_kept + 1) / len(log_ratio))
    squares = float(log_ratio @ log_ratio)
    return float(log_ratio @ expected) / squares if squares > 0 else math.inf
