"""Answers from the data alone, without any training: two intrinsic dimension estimators, and principal components.

TwoNN (Facco and others 2017) and MLE (Levina and Bickel 2004, with 20 neighbours) are those of scikit-dimension, which
``pip install 'aldvae[peers]'`` installs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from sklearn.decomposition import PCA

from aldvae.compression.rules.base import SMALLEST_DIM
from peers.problems import Answer, Cost, Problem

VARIANCE = 0.95


def mle_dimension(x: np.ndarray) -> float:
    """Return the maximum likelihood estimate of the intrinsic dimension of x (N, D), N > 20."""
    import skdim

    return float(skdim.id.MLE().fit_transform(x, n_neighbors=20))


def two_nn_dimension(x: np.ndarray) -> float:
    """Return the TwoNN estimate of the intrinsic dimension of x (N, D)."""
    import skdim

    return float(skdim.id.TwoNN().fit_transform(x))


def variance_dimension(x: np.ndarray) -> float:
    """Return how many principal components of x (N, D) explain 95% of its variance."""
    return float(PCA(VARIANCE, svd_solver="full").fit(x).n_components_)


def mle(problem: Problem, seed: int) -> Answer:
    """Return the answer of `mle_dimension`, rounded."""
    return _answer(mle_dimension, problem, seed)


def two_nn(problem: Problem, seed: int) -> Answer:
    """Return the answer of `two_nn_dimension`, rounded."""
    return _answer(two_nn_dimension, problem, seed)


def variance(problem: Problem, seed: int) -> Answer:
    """Return the answer of `variance_dimension`."""
    return _answer(variance_dimension, problem, seed)


def _answer(estimate: Callable[[np.ndarray], float], problem: Problem, seed: int) -> Answer:
    x = problem.samples(seed).flatten(1).numpy()
    start = time.perf_counter()
    size = round(estimate(x))
    return Answer(max(SMALLEST_DIM, size), Cost(0, time.perf_counter() - start))
