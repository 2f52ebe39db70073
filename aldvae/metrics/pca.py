"""PCA features: the leading principal components of the training data, for data without labels and for vectors."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from torch import Tensor, nn

from aldvae.data.dataset import Dataset, select_frames, to_float
from aldvae.data.mapped import MappedSamples
from aldvae.utils.devices import cpu_settings

# Part of the features' identity: increase it whenever something here changes.
VERSION = 1
DIMENSIONS = 64
_MAX_SAMPLES = 5000
# Of samples that stay in a file, so that they do not fill the memory after all: 256 MiB.
_MAX_VALUES = 2**26


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
    5,000 training samples on the CPU with one thread; to at most 67 million values of them if they stay in a file.
    """
    from sklearn.decomposition import PCA

    n_samples = _MAX_SAMPLES
    if isinstance(data.train, MappedSamples):
        n_samples = min(n_samples, max(DIMENSIONS, _MAX_VALUES // math.prod(data.shape)))
    stored = select_frames(data.train.on(torch.device("cpu"))[:n_samples])
    samples = to_float(stored).flatten(1).numpy()
    with cpu_settings(1):
        # Converted pixels are a copy already, which may be overwritten.
        copy = stored.dtype != torch.uint8
        pca = PCA(min(DIMENSIONS, *samples.shape), random_state=0, copy=copy).fit(samples)
    projection = Projection(*(torch.from_numpy(a.astype(np.float32)) for a in (pca.mean_, pca.components_)))
    digest = hashlib.sha256(repr((VERSION, data.train.fingerprint)).encode()).hexdigest()[:16]
    return projection, f"pca-{digest}"
