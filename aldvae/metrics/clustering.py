"""How well the latent space falls into clusters."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score


def silhouette(z: np.ndarray, n_clusters: int, seed: int) -> float:
    """Return the Silhouette score of K-means clusters of z (N, n_z), in [-1, 1] (equation 1; Algorithm 1).

    0 where all points fall into one cluster, as scikit-learn scores a cluster of one point.
    """
    labels = KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(z)
    if len(np.unique(labels)) < 2:
        return 0.0
    return float(silhouette_score(z, labels))
