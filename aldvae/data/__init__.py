"""One registry of datasets: each name stands for a function that returns all its images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from aldvae.data import digits, mnist
from aldvae.data.dataset import Dataset, Images, cut
from aldvae.errors import unknown_name
from aldvae.protocol import protocol

__all__ = ["SOURCES", "Dataset", "Images", "load_dataset"]

SOURCES: dict[str, Callable[[Path | None], Images]] = {
    "digits": lambda _: digits.load(),
    "mnist": partial(mnist.load, "MNIST"),
    "fashionmnist": partial(mnist.load, "FashionMNIST"),
}


def load_dataset(name: str, data_dir: Path | None = None, limit: int | None = None) -> Dataset:
    """Return dataset `name`, found or downloaded under `data_dir`, cut as its protocol says.

    With `limit`, a subset of that many images, the same each time. Raises `ConfigError` for an unknown name, a data
    directory that does not exist, data that is missing and cannot be downloaded, damaged data, a senseless limit.
    """
    if name not in SOURCES:
        raise unknown_name("dataset", name, list(SOURCES))
    return cut(name, SOURCES[name](data_dir), protocol(name).validation, limit)
