"""Images to features: which network looks at the images behind a Fréchet distance.

Images come as float32 in [0, 1], (N, C, H, W); gray is repeated to three channels here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from aldvae.data.dataset import Dataset


@dataclass(frozen=True)
class Features:
    """A network from images (B, 3, H, W) in [0, 1] to features (B, D), and where it comes from.

    `identity` names the weights: equal identities give equal features. `note` is for people.
    """

    name: str
    network: nn.Module
    identity: str
    batch_size: int
    note: str = ""

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Return the features (N, D) of images (N, C, H, W), float32 in [0, 1], on their device."""
        if images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)
        return torch.cat([self.network(batch) for batch in images.split(self.batch_size)])


def _classifier(data: Dataset, cache_dir: Path, weights: Path | None, device: torch.device) -> Features:  # noqa: ARG001
    from aldvae.metrics.classifier import load_classifier

    network, identity, accuracy = load_classifier(data, cache_dir)
    note = f"Fréchet distances use classifier features of a network with {accuracy:.1%} validation accuracy"
    return Features("classifier", network.to(device), identity, 1000, note)


def _inception(data: Dataset, cache_dir: Path, weights: Path | None, device: torch.device) -> Features:  # noqa: ARG001
    from aldvae.metrics.inception import load_inception

    network, identity = load_inception(weights)
    return Features(
        "inception", network.to(device), identity, 50, "Fréchet distances use pytorch-fid's Inception features: the FID"
    )


Loader = Callable[[Dataset, Path, Path | None, torch.device], Features]
FEATURES: dict[str, Loader | None] = {"inception": _inception, "classifier": _classifier, "none": None}


def load_features(
    name: str, data: Dataset, cache_dir: Path, weights: Path | None, device: torch.device
) -> Features | None:
    """Return the features called `name`, None for ``none``; `weights` is the file of Inception's.

    Raises `ConfigError` for weights that are missing, damaged or cannot be downloaded.
    """
    loader = FEATURES[name]
    return loader(data, cache_dir, weights, device) if loader is not None else None
