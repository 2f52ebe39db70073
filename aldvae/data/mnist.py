"""MNIST and FashionMNIST through torchvision: the 60,000 training images."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from aldvae.data.dataset import Samples
from aldvae.data.directory import data_directory, download_into
from aldvae.utils.errors import ConfigError

COUNT = 60_000


def load(folder: str, data_dir: Path | None, cache_dir: Path) -> Samples:
    """Read `folder` ("MNIST" or "FashionMNIST") under `data_dir`, downloading it first where it is missing.

    Raises `ConfigError` where it is missing and cannot be downloaded, or is damaged.
    """
    from torchvision import datasets

    source = getattr(datasets, folder)
    directory = data_directory(data_dir, cache_dir)
    raw = directory / folder / "raw"
    try:
        if not all((raw / Path(name).stem).exists() for name, _ in source.resources):
            download_into(directory, folder, lambda into: source(into, train=True, download=True))
        # torchvision checks shapes with assertions and lets the rest of a damaged file fail as it may.
        images = source(directory, train=True, download=False)
        x, labels = _checked(images)
    except ConfigError:
        raise
    except PermissionError as error:
        raise ConfigError("data_dir", f"{raw} cannot be read: permission denied") from error
    except (OSError, RuntimeError, ValueError, AssertionError, IndexError, KeyError) as error:
        problem = f"{raw} holds damaged or truncated files; delete {folder} there to have it downloaded again"
        raise ConfigError("data_dir", problem) from error
    return Samples(x.unsqueeze(1), labels.long(), tuple(images.classes))


def _checked(images: object) -> tuple[Tensor, Tensor]:
    x: Tensor = images.data  # type: ignore[attr-defined]
    labels: Tensor = images.targets  # type: ignore[attr-defined]
    if tuple(x.shape) != (COUNT, 28, 28) or tuple(labels.shape) != (COUNT,) or int(labels.max()) > 9:
        raise ValueError(f"{tuple(x.shape)} images and {tuple(labels.shape)} labels are not those of the original")
    return x, labels
