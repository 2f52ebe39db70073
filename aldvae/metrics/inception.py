"""pytorch-fid's Inception network, with weights that are read from a file or downloaded once."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch
from urllib.parse import urlparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aldvae.utils.errors import ConfigError

OPTION = "inception_weights"


class PooledInception(nn.Module):
    """pytorch-fid's `InceptionV3` up to its last pooling layer, in channels-last memory order.

    Convolutions are faster in that order: on a CPU nearly twice as fast, with features equal to 2e-7.
    """

    def __init__(self, inception: nn.Module, dtype: torch.dtype) -> None:
        """Wrap `inception`, which will compute in `dtype`."""
        super().__init__()
        self.inception = inception.to(memory_format=torch.channels_last)
        self.dtype = dtype

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) in [0, 1] to features (B, 2048), float32."""
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            features: Tensor = self.inception(images.contiguous(memory_format=torch.channels_last))[0]
        return features.flatten(1).float()


class OpenVINOInception(nn.Module):
    """pytorch-fid's `InceptionV3`, compiled by OpenVINO for the CPU, with torch's current number of threads."""

    def __init__(self, inception: nn.Module, precision: str) -> None:
        """Compile `inception`, which will compute in `precision`, a key of `_OPENVINO`."""
        import openvino

        super().__init__()
        # torch.export treats a batch size of 1 as constant, so the example has two images.
        example = torch.rand(2, 3, _SIDE, _SIDE)
        shapes = {"inp": {0: torch.export.Dim("batch")}}
        model = openvino.convert_model(torch.export.export(inception.eval(), (example,), dynamic_shapes=shapes))
        settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": _OPENVINO[precision]}
        self._compiled = openvino.Core().compile_model(model, "CPU", settings)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) in [0, 1] to features (B, 2048), float32."""
        # The same resizing as in `InceptionV3`, which does not resize images of this size again.
        images = F.interpolate(images, (_SIDE, _SIDE), mode="bilinear", align_corners=False)
        # Copied because the next call overwrites the memory of the result.
        return torch.from_numpy(self._compiled(images.numpy())[0].copy()).flatten(1)


_SIDE = 299
_OPENVINO = {"float32": "f32", "bfloat16": "bf16"}


@lru_cache(maxsize=1)
def load_inception(weights: Path | None, device: torch.device, precision: str = "float32") -> tuple[nn.Module, str]:
    """Return the network and an identity of its weights, which come from the file `weights` (None: the original).

    The original weights are downloaded once into torch's cache and checked against the hash in their name. On a CPU,
    OpenVINO is used if it is installed. Raises `ConfigError` if the weights cannot be downloaded, or if the file is
    missing, damaged or of another network.
    """
    from pytorch_fid import inception

    path = weights if weights is not None else _downloaded(inception.FID_WEIGHTS_URL)
    network = _build(path)
    name = f"inception-{_digest(path)}" + ("" if precision == "float32" else f"-{precision}")
    if device.type == "cpu" and precision in _OPENVINO and find_spec("openvino"):
        return OpenVINOInception(network, precision), f"{name}-openvino"
    return PooledInception(network, getattr(torch, precision)).eval(), name


def _downloaded(url: str) -> Path:
    name = Path(urlparse(url).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.exists():
        try:
            torch.hub.load_state_dict_from_url(url, check_hash=True)
        except (OSError, RuntimeError) as error:
            raise ConfigError(
                OPTION,
                f"is needed, because {name} could not be downloaded; put the file at {path}, give its path with "
                "--inception-weights, or use --fid-features classifier (which is not the FID) or none",
            ) from error
    expected = name.rsplit("-", 1)[-1].removesuffix(".pth")
    if not _digest(path).startswith(expected):
        raise ConfigError(OPTION, f"{path} is damaged (its sha256 does not start with {expected}); delete it")
    return path


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ConfigError(OPTION, f"{path} does not exist; put pytorch-fid's weights there") from error
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise ConfigError(OPTION, f"{path} is damaged or not a file of torch weights; replace it") from error
    return state


def _build(path: Path) -> nn.Module:
    from pytorch_fid import inception

    state = _read(path)
    # pytorch-fid loads weights only from its own address, so we replace that function by one that returns ours.
    with patch.object(inception, "load_state_dict_from_url", lambda *_, **__: state):
        try:
            network: nn.Module = inception.InceptionV3([inception.InceptionV3.BLOCK_INDEX_BY_DIM[2048]])
        except (RuntimeError, TypeError, AttributeError) as error:
            raise ConfigError(OPTION, f"{path} does not fit pytorch-fid's Inception network; name its file") from error
    return network.requires_grad_(False)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
