"""MNIST and FashionMNIST, read through torchvision: the 60,000 training images of each."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from aldvae.data.dataset import Samples
from aldvae.data.directory import data_directory, download_into
from aldvae.utils.errors import ConfigError

COUNT = 60_000


def load(folder: str, data_dir: Path | None, cache_dir: Path) -> Samples:
    """Return the images, uint8 (60000, 1, 28, 28), and labels in `folder` ("MNIST" or "FashionMNIST") of `data_dir`.

    Downloads them if they are missing. Raises `ConfigError` if they cannot be downloaded or are damaged.
    """
    from torchvision import datasets

    source = getattr(datasets, folder)
    directory = data_directory(data_dir, cache_dir)
    raw = directory / folder / "raw"
    try:
        if not all((raw / Path(name).stem).exists() for name, _ in source.resources):
            download_into(directory, folder, lambda into: source(into, train=True, download=True))
        # For damaged files, torchvision raises AssertionError or whatever its parsing runs into.
        images = source(directory, train=True, download=False)
        x, labels = _checked(images.data, images.targets)
    except ConfigError:
        raise
    except PermissionError as error:
        raise ConfigError("data_dir", f"{raw} cannot be read: permission denied; check its permissions") from error
    except (OSError, RuntimeError, ValueError, AssertionError, IndexError, KeyError) as error:
        problem = f"{raw} holds damaged or truncated files; delete {folder} there to have it downloaded again"
        raise ConfigError("data_dir", problem) from error
    return Samples(x.unsqueeze(1), labels.long(), tuple(images.classes))


def _checked(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    if tuple(x.shape) != (COUNT, 28, 28) or tuple(labels.shape) != (COUNT,) or int(labels.max()) > 9:
        raise ValueError(f"images of {tuple(x.shape)} and labels of {tuple(labels.shape)} are not the original's")
    return x, labels
