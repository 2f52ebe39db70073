"""Clusters in the latent space: how well they are separated, and how well they agree with the classes."""

from __future__ import annotations

import warnings

import numpy as np

from aldvae.utils.devices import limit_new_threadpools

# scikit-learn is imported inside the functions because it takes a second and training can start without it.


def find_clusters(z: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    """Return the K-means cluster (N,) of each latent vector z (N, n_z), the best of ten initialisations."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(), limit_new_threadpools():
        # With fewer distinct points than clusters, some clusters are empty. The scores can handle that.
        warnings.simplefilter("ignore", ConvergenceWarning)
        clusters: np.ndarray = KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(z)
    return clusters


def silhouette(z: np.ndarray, groups: np.ndarray) -> float:
    """Return the Silhouette score of z (N, n_z) in the groups `groups` (N,), in [-1, 1] (the paper, equation 1).

    It is 0 if all points are in one group or each is in its own, as scikit-learn scores a group of one point.
    """
    from sklearn.metrics import silhouette_score

    if not 1 < len(np.unique(groups)) < len(z):
        return 0.0
    with limit_new_threadpools():
        return float(silhouette_score(z, groups))


def agreement(clusters: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return how well `clusters` (N,) agree with the classes `labels` (N,), as three metrics by their CSV names.

    ``cluster_accuracy``, in [0, 1], is the accuracy of the best assignment of clusters to classes (Hungarian
    algorithm); ``nmi``, in [0, 1], is the normalised mutual information; ``ari`` is the adjusted Rand index, at most 1
    and 0 for random clusters.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    counts = contingency_matrix(labels, clusters)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return {
        "cluster_accuracy": float(counts[rows, columns].sum() / len(labels)),
        "nmi": float(normalized_mutual_info_score(labels, clusters)),
        "ari": float(adjusted_rand_score(labels, clusters)),
    }
