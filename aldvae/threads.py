"""How many threads this process computes with, in torch and in everything below scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def limited_threads(threads: int | None) -> Iterator[int]:
    """Compute with `threads` threads (None: as torch would) inside the context; yields their number."""
    before = torch.get_num_threads()
    now = threads if threads is not None else before
    with threadpool_limits(now):
        torch.set_num_threads(now)
        try:
            yield now
        finally:
            torch.set_num_threads(before)
