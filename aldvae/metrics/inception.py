"""pytorch-fid's Inception network, with weights from a local file or downloaded once."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from aldvae.errors import ConfigError

OPTION = "inception_weights"


class PooledInception(nn.Module):
    """pytorch-fid's `InceptionV3`, its last pooling layer as a (B, 2048) matrix."""

    def __init__(self, inception: nn.Module) -> None:
        """Wrap `inception`."""
        super().__init__()
        self.inception = inception

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) in [0, 1] to features (B, 2048)."""
        features: Tensor = self.inception(images)[0]
        return features.flatten(1)


def load_inception(weights: Path | None) -> tuple[nn.Module, str]:
    """Return the network and a name for its weights: from the file `weights`, or the original ones.

    The original ones are downloaded once into torch's cache and checked against the hash in their name. Raises
    `ConfigError` where they cannot be had, or where the file is missing, damaged or of another network.
    """
    from pytorch_fid import inception

    path = weights if weights is not None else _downloaded(inception.FID_WEIGHTS_URL)
    state = _read(path)
    # pytorch-fid can only load from its address; hand it the state it would have loaded from there.
    with patch.object(inception, "load_state_dict_from_url", lambda *_, **__: state):
        try:
            network = inception.InceptionV3([inception.InceptionV3.BLOCK_INDEX_BY_DIM[2048]])
        except (RuntimeError, TypeError, AttributeError) as error:
            raise ConfigError(OPTION, f"{path} does not hold weights of pytorch-fid's Inception network") from error
    return PooledInception(network).eval().requires_grad_(False), "inception-" + _digest(path)


def _downloaded(url: str) -> Path:
    name = Path(urlparse(url).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.exists():
        try:
            torch.hub.load_state_dict_from_url(url, check_hash=True)
        except (OSError, RuntimeError) as error:
            raise ConfigError(
                OPTION,
                f"is needed: {name} could not be downloaded; put the file at {path}, name another place with "
                "--inception-weights, or use --fid-features classifier (which is not the FID) or none",
            ) from error
    expected = name.rsplit("-", 1)[-1].removesuffix(".pth")
    if not _digest(path).startswith(expected):
        raise ConfigError(OPTION, f"{path} is damaged (its sha256 does not begin with {expected}); delete it")
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ConfigError(OPTION, f"{path} does not exist; put pytorch-fid's weights there") from error
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise ConfigError(OPTION, f"{path} is damaged or no file of torch weights; put it there again") from error
    return state


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
