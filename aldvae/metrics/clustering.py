"""How well the latent space falls into clusters, and whether these are the classes."""

from __future__ import annotations

import warnings

import numpy as np

from aldvae.utils.devices import limit_new_threadpools

# scikit-learn takes a second to import, and training can begin without it.


def find_clusters(z: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    """Return the K-means cluster (N,) of each latent vector z (N, n_z): the best of ten starts."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(), limit_new_threadpools():
        # Fewer distinct points than clusters leave clusters empty, which the scores allow for.
        warnings.simplefilter("ignore", ConvergenceWarning)
        clusters: np.ndarray = KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(z)
    return clusters


def silhouette(z: np.ndarray, groups: np.ndarray) -> float:
    """Return the Silhouette score of `groups` (N,) of z (N, n_z), in [-1, 1] (equation 1; Algorithm 1).

    0 where all points are in one group, or each in its own, as scikit-learn scores a group of one point.
    """
    from sklearn.metrics import silhouette_score

    if not 1 < len(np.unique(groups)) < len(z):
        return 0.0
    with limit_new_threadpools():
        return float(silhouette_score(z, groups))


def agreement(clusters: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Compare `clusters` (N,) with the classes `labels` (N,).

    Returns ``cluster_accuracy``, the share of samples in the right class when clusters are given to classes as well as
    can be (Hungarian algorithm), the normalised mutual information ``nmi`` in [0, 1] and the adjusted Rand index
    ``ari``, 0 for chance and at most 1.
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
