"""How this process computes on the CPU: threads, in torch and below scikit-learn, and denormal numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

# How many contexts are open: torch does not tell whether it flushes denormal numbers now.
_depth = 0


@contextmanager
def cpu_settings(threads: int | None) -> Iterator[int]:
    """Compute with `threads` threads (None: as torch would) inside the context; yields their number.

    Numbers below 1e-38 count as zero inside: the moments Adam keeps of neurons without gradient decay into that range,
    where the processor computes so slowly that an epoch of MNIST took twice as long from the fourth epoch on.
    """
    global _depth
    before = torch.get_num_threads()
    now = threads if threads is not None else before
    with threadpool_limits(now):
        torch.set_num_threads(now)
        torch.set_flush_denormal(True)
        _depth += 1
        try:
            yield now
        finally:
            _depth -= 1
            torch.set_flush_denormal(_depth > 0)
            torch.set_num_threads(before)


@contextmanager
def late_libraries() -> Iterator[None]:
    """Hold libraries that were loaded inside `cpu_settings` to its number of threads as well."""
    with threadpool_limits(torch.get_num_threads()):
        yield
