"""PCA features: the leading principal components of the training data, for data without labels and for vectors."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor, nn

from aldvae.data.dataset import Dataset, select_frames, to_float
from aldvae.utils.devices import cpu_settings

# Part of the features' identity: increase it whenever something here changes.
VERSION = 1
DIMENSIONS = 64
_MAX_SAMPLES = 5000


class Projection(nn.Module):
    """The projection onto principal components: `mean` is (D,) and `components` (K, D)."""

    mean: Tensor
    components: Tensor

    def __init__(self, mean: Tensor, components: Tensor) -> None:
        """Register both as buffers, so that they move with the module to a device."""
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("components", components)

    @property
    def dimensions(self) -> int:
        """The number of components, K."""
        return len(self.components)

    def forward(self, samples: Tensor) -> Tensor:
        """Return the features (B, K) of samples (B, *shape)."""
        return (samples.flatten(1) - self.mean) @ self.components.T


def fit_pca(data: Dataset) -> tuple[Projection, str]:
    """Return the projection onto the 64 leading components and its identity.

    There are fewer components if the samples have fewer values or are fewer. The projection is fitted to the first
    5,000 training samples on the CPU with one thread.
    """
    from sklearn.decomposition import PCA

    samples = to_float(select_frames(data.train.on(torch.device("cpu"))[:_MAX_SAMPLES])).flatten(1).numpy()
    with cpu_settings(1):
        pca = PCA(min(DIMENSIONS, *samples.shape), random_state=0).fit(samples)
    projection = Projection(*(torch.from_numpy(a.astype(np.float32)) for a in (pca.mean_, pca.components_)))
    digest = hashlib.sha256(repr((VERSION, data.train.fingerprint)).encode()).hexdigest()[:16]
    return projection, f"pca-{digest}"
