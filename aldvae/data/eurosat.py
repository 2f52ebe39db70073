"""EuroSAT, read through torchvision: 27,000 satellite images of 64 x 64 pixels in ten classes."""

from __future__ import annotations

from pathlib import Path

from aldvae.data.cache import cached, files_key
from aldvae.data.dataset import Samples
from aldvae.data.directory import data_directory, download_into
from aldvae.data.image_files import read_images
from aldvae.utils.errors import ConfigError

FOLDER = "eurosat"
COUNT = 27_000


def files(data_dir: Path | None, cache_dir: Path) -> list[Path]:
    """Return the paths of all images, CLASS/FILE.jpg; downloads them if their folder is missing.

    Raises `ConfigError` if they cannot be downloaded or if any is missing.
    """
    from torchvision import datasets

    directory = data_directory(data_dir, cache_dir)
    root = directory / FOLDER / "2750"
    if not root.exists():
        download_into(directory, FOLDER, lambda into: datasets.EuroSAT(into, download=True))
    try:
        images = [Path(path) for path, _ in datasets.EuroSAT(directory, download=False).samples]
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            "data_dir", f"{root} cannot be read or holds no class folders; delete it to have it downloaded again"
        ) from error
    if len(images) != COUNT:
        problem = f"{root} holds {len(images)} images instead of {COUNT}; delete it to have it downloaded again"
        raise ConfigError("data_dir", problem)
    return images


def load(data_dir: Path | None, cache_dir: Path) -> Samples:
    """Return all images, uint8 (27000, 3, 64, 64), and their labels; decoded once, then read from the cache.

    Raises `ConfigError` as `files` does, and for a damaged image.
    """
    images = files(data_dir, cache_dir)
    classes = sorted({path.parent.name for path in images})
    labels = [classes.index(path.parent.name) for path in images]
    key = f"eurosat-{files_key(images[0].parents[1], images)}"
    return cached(cache_dir, key, lambda: read_images(images, "data_dir", labels, tuple(classes)))
