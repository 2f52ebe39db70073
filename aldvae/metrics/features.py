"""The features behind a Fréchet distance: a network that maps samples to feature vectors.

Images are float32 in [0, 1], (N, C, H, W); only this module repeats gray to three channels for a distance. Of each
video, one frame is used. Vectors stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from aldvae.data.dataset import Dataset, select_frames
from aldvae.utils.errors import ConfigError


@dataclass(frozen=True)
class Features:
    """A network that maps images (B, C, H, W) in [0, 1], or vectors (B, D), to features (B, K).

    `identity` identifies the weights: equal identities give equal features. `description` is printed at the start of a
    run. With `rgb`, the network needs three channels. At most `batch_size` samples are passed to it at once.
    """

    name: str
    network: nn.Module
    identity: str
    batch_size: int
    description: str
    rgb: bool = True

    @torch.inference_mode()
    def __call__(self, samples: Tensor) -> Tensor:
        """Return the features (N, K) of `samples` (N, *shape) in float32, on their device.

        Out of GPU memory, it tries again with half the batch size.
        """
        samples = select_frames(samples)
        if samples.ndim == 4:
            # The means of a Gaussian likelihood may lie outside [0, 1].
            samples = samples.clamp(0, 1)
        if self.rgb and samples.shape[1] == 1:
            samples = samples.expand(-1, 3, -1, -1)
        try:
            return torch.cat([self.network(batch) for batch in samples.split(self.batch_size)])
        except torch.cuda.OutOfMemoryError:
            if self.batch_size == 1:
                raise
        return replace(self, batch_size=self.batch_size // 2)(samples)


@dataclass(frozen=True)
class FeatureConfig:
    """Where features are computed and cached, and for Inception the file of its `weights` and its `precision`."""

    cache_dir: Path
    device: torch.device
    weights: Path | None = None
    precision: str = "float32"


def _inception(data: Dataset, config: FeatureConfig) -> Features:
    from aldvae.metrics.inception import load_inception

    _require_images("inception", data)
    network, identity = load_inception(config.weights, config.device, config.precision)
    batch_size = 500 if config.device.type == "cuda" else 20
    return Features(
        "inception", network, identity, batch_size, "Fréchet distances use pytorch-fid's Inception: the FID"
    )


def _classifier(data: Dataset, config: FeatureConfig) -> Features:
    from aldvae.metrics.classifier import load_classifier

    _require_images("classifier", data)
    if len(data.train.classes) < 2:
        has = f"{len(data.train.classes) or 'no'} labelled classes"
        problem = f"classifier needs labels of two classes or more, but {data.name} has {has}; use pca or none"
        raise ConfigError("fid_features", problem)
    network, identity, accuracy = load_classifier(data, config.cache_dir)
    description = f"Fréchet distances use classifier features of a network with {accuracy:.1%} validation accuracy"
    return Features("classifier", network, identity, 1000, description)


def _pca(data: Dataset, config: FeatureConfig) -> Features:  # noqa: ARG001
    from aldvae.metrics.pca import fit_pca

    network, identity = fit_pca(data)
    description = f"Fréchet distances use the {network.dimensions} leading principal components of the training data"
    return Features("pca", network, identity, 1000, description, rgb=False)


def _require_images(name: str, data: Dataset) -> None:
    if data.train.is_vectors or data.shape[0] not in (1, 3):
        what = "vectors" if data.train.is_vectors else f"images of {data.shape[0]} channels"
        raise ConfigError("fid_features", f"{name} needs gray or RGB images, but {data.name} holds {what}; use pca")


Loader = Callable[[Dataset, FeatureConfig], Features]
FEATURES: dict[str, Loader | None] = {
    "inception": _inception,
    "classifier": _classifier,
    "pca": _pca,
    "none": None,
}


def load_features(name: str, data: Dataset, config: FeatureConfig) -> Features | None:
    """Return the features called `name` for `data`; None for ``none``.

    Raises `ConfigError` if they do not support the data, or if their weights are missing, damaged or cannot be
    downloaded.
    """
    loader = FEATURES[name]
    if loader is None:
        return None
    features = loader(data, config)
    features.network.to(config.device)
    return features
