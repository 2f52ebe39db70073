"""The built-in datasets: where each is stored, how it is loaded, and what it must contain."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from aldvae.data import eurosat, mnist, sprites
from aldvae.data.dataset import Samples


def load_digits() -> Samples:
    """Return scikit-learn's 1,797 digits, uint8 (1797, 1, 8, 8), their 17 gray levels scaled to 0..255, and labels."""
    from sklearn import datasets

    x, labels = datasets.load_digits(return_X_y=True)
    pixels = torch.from_numpy((x * (255 / 16)).round()).to(torch.uint8)
    return Samples(pixels.reshape(-1, 1, 8, 8), torch.from_numpy(labels).long(), tuple("0123456789"))


@dataclass(frozen=True, kw_only=True)
class Source:
    """A built-in dataset.

    `load`, which returns the samples, and `contents`, which yields what `checksum` covers, take the data directory
    (None: the one in the cache) and the cache directory. `folder` is relative to the data directory, None for an
    embedded dataset. `count` and `shape` are those of the samples to train and validate on, and `checksum` is that of
    the complete original. `credit` must be printed wherever samples are shown.
    """

    name: str
    load: Callable[[Path | None, Path], Samples]
    folder: str | None
    count: int
    shape: tuple[int, ...]
    checksum: str
    contents: Callable[[Path | None, Path], Iterable[bytes]]
    credit: str = ""

    def verify(self, data_dir: Path | None, cache_dir: Path) -> str:
        """Return how the data differs from the complete original, as text; empty if it does not.

        Raises `ConfigError` if it cannot be read.
        """
        samples = self.load(data_dir, cache_dir)
        if (len(samples), samples.shape) != (self.count, self.shape):
            return f"{len(samples)} samples of {samples.shape} instead of {self.count} of {self.shape}"
        actual = checksum(self.contents(data_dir, cache_dir))
        return "" if actual == self.checksum else f"its contents are not the original's (checksum {actual})"


def checksum(pieces: Iterable[bytes]) -> str:
    """Return a checksum that does not depend on the order of `pieces`: the sum of their SHA-256 modulo 2^128."""
    total = sum(int.from_bytes(hashlib.sha256(piece).digest()) for piece in pieces)
    return f"{total % 2**128:032x}"


def _samples(load: Callable[[Path | None, Path], Samples], data_dir: Path | None, cache_dir: Path) -> Iterator[bytes]:
    samples = load(data_dir, cache_dir)
    labels = samples.labels if samples.labels is not None else torch.zeros(len(samples))
    for x, label in zip(samples.x.numpy(), labels.tolist(), strict=True):
        yield x.tobytes() + str(label).encode()


def _files(
    list_files: Callable[[Path | None, Path], list[Path]], data_dir: Path | None, cache_dir: Path
) -> Iterator[bytes]:
    for path in list_files(data_dir, cache_dir):
        yield f"{path.parent.name}/{path.name} ".encode() + path.read_bytes()


def _digits(_: Path | None, __: Path) -> Samples:
    return load_digits()


def _mnist_like(name: str, folder: str, expected_checksum: str) -> Source:
    load = partial(mnist.load, folder)
    return Source(
        name=name,
        load=load,
        folder=f"{folder}/raw",
        count=mnist.COUNT,
        shape=(1, 28, 28),
        checksum=expected_checksum,
        contents=partial(_samples, load),
    )


_ALL = (
    Source(
        name="digits",
        load=_digits,
        folder=None,
        count=1_797,
        shape=(1, 8, 8),
        checksum="e4aa57bfac314d735725ba9165693243",
        contents=partial(_samples, _digits),
    ),
    _mnist_like("mnist", "MNIST", "fdcd9c2d3babe680f44775cea9250c24"),
    _mnist_like("fashionmnist", "FashionMNIST", "b90ccfa2ae4e6648e011b597a1215d17"),
    Source(
        name="eurosat",
        load=eurosat.load,
        folder="eurosat/2750",
        count=eurosat.COUNT,
        shape=(3, 64, 64),
        checksum="eeaa2e7e92ad757450bd8c525b671bb3",
        contents=partial(_files, eurosat.files),
    ),
    Source(
        name="sprites",
        load=sprites.load,
        folder=sprites.FOLDER,
        count=sprites.N_TRAIN * len(sprites.LABELS),
        shape=(3, sprites.FRAMES, sprites.SIZE, sprites.SIZE),
        checksum="ab1569ad011956c68d552812117e31d4",
        contents=partial(_files, sprites.files),
        credit=sprites.CREDIT,
    ),
)
SOURCES = {source.name: source for source in _ALL}
