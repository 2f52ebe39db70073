"""Samples that stay in a file: only what is in use is in memory, so there may be more of them than memory holds."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor

from aldvae.data.dataset import Rows, Samples, Standardisation

# Larger arrays and folders stay in a file.
MAPPED_BYTES = 2**28
# Values that a pass over all samples reads at once: 64 MiB of float32.
CHUNK_VALUES = 2**24
# Threads that read batches ahead of training, and how many batches.
_READERS, _AHEAD = 2, 16

Convert = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class MappedRows:
    """The rows `positions` (N,) of a mapped `array`, each read when it is needed, through `convert`, onto `device`.

    It reads as a tensor does: by slices, by positions, and in parts.
    """

    array: np.ndarray
    positions: np.ndarray
    convert: Convert
    device: torch.device

    def __len__(self) -> int:
        """The number of rows, N."""
        return len(self.positions)

    def __getitem__(self, index: slice | Tensor, /) -> Tensor:
        """Return the rows at `index`."""
        chosen = self.positions[index if isinstance(index, slice) else index.cpu().numpy()]
        return torch.from_numpy(self.convert(self.array.take(chosen, axis=0))).to(self.device)

    def index_select(self, _: int, index: Tensor, /) -> Tensor:
        """Return the rows at the positions `index`, as `Tensor.index_select` does along dimension 0."""
        return self[index]

    def split(self, size: int, /) -> Iterator[Tensor]:
        """Yield all rows in order, `size` at a time."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def read_ahead(self, parts: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the rows at each of the `parts`; threads read the next ones in the meantime."""
        waiting: deque[Future[Tensor]] = deque()
        with ThreadPoolExecutor(_READERS) as readers:
            for part in parts:
                waiting.append(readers.submit(self.__getitem__, part))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


def batches(rows: Rows, parts: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield the `rows` at the positions of each of the `parts`."""
    if isinstance(rows, MappedRows):
        return rows.read_ahead(parts)
    return (rows.index_select(0, part) for part in parts)


@dataclass(frozen=True)
class MappedSamples(Samples):
    """Samples of a mapped `array`; `x` has their shape and type, but no rows.

    `positions` are their rows of the array, `convert` turns rows into samples, and `identity` is the fingerprint of all
    rows. `standardisation`, in float64, is applied to vectors when they are read.
    """

    array: np.ndarray = field(kw_only=True, compare=False)
    positions: np.ndarray = field(kw_only=True, compare=False)
    convert: Convert = field(kw_only=True, compare=False)
    identity: str = field(kw_only=True)
    standardisation: Standardisation | None = field(default=None, kw_only=True, compare=False)

    def __len__(self) -> int:
        """The number of samples, N."""
        return len(self.positions)

    def take(self, positions: Tensor | np.ndarray) -> Self:
        """Return the samples at `positions`, in that order; nothing is read."""
        index = torch.as_tensor(positions)
        labels = None if self.labels is None else self.labels[index]
        return replace(self, positions=self.positions[index.numpy()], labels=labels)

    def on(self, device: torch.device) -> MappedRows:
        """Return what reads the samples and copies them to `device`."""
        return MappedRows(self.array, self.positions, self._read, device)

    def _read(self, rows: np.ndarray) -> np.ndarray:
        samples = self.convert(rows)
        if self.standardisation is None:
            return samples
        # With numpy, whose threads do not compete with those of the training.
        mean, scale = (part.numpy() for part in self.standardisation)
        standardised: np.ndarray = ((samples - mean) / scale).astype(np.float32)
        return standardised

    @cached_property
    def fingerprint(self) -> str:
        """A hash of samples and labels, from that of all rows and the positions."""
        if np.array_equal(self.positions, np.arange(len(self.array))) and self.standardisation is None:
            return self.identity
        digest = hashlib.sha256(self.identity.encode())
        digest.update(np.ascontiguousarray(self.positions).data)
        return digest.hexdigest()[:16]

    def moments(self) -> Standardisation:
        """Return mean and standard deviation, float64 (D,), in one pass over the file."""
        rows = max(2, CHUNK_VALUES // math.prod(self.shape))
        # Up to one chunk, the numbers are those of samples in memory. Beyond, the order of the file is read faster.
        order = self.positions if len(self) <= rows else np.sort(self.positions)
        parts = MappedRows(self.array, order, self.convert, torch.device("cpu"))
        if len(self) <= rows:
            return Samples(parts[:]).moments()
        return combined_moments(part.double() for part in parts.split(rows))

    def standardised(self, by: Standardisation) -> Self:
        """Return the samples with `by` applied when they are read."""
        return replace(self, standardisation=by, x=self.x.float())


def combined_moments(parts: Iterable[Tensor]) -> Standardisation:
    """Return mean and standard deviation (D,) of float64 `parts` (n, D) (Chan, Golub and LeVeque 1983)."""
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for part in parts:
        part_mean = part.mean(0)
        difference, total = part_mean - mean, count + len(part)
        squares = squares + (part - part_mean).square().sum(0) + difference.square() * (count * len(part) / total)
        mean = mean + difference * (len(part) / total)
        count = total
    return Standardisation(mean, (squares / (count - 1)).sqrt())
