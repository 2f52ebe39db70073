"""Random streams, one for each (seed, purpose, epoch), independent of what was drawn before.

A run that was killed and resumed, or that computes other metrics, therefore draws the same numbers as one that was not.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def stream_seed(seed: int, purpose: str, epoch: int = 0) -> int:
    """Return the 64-bit seed of the stream for `purpose` (for example ``"noise"``) in `epoch`."""
    sequence = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), epoch])
    return int(sequence.generate_state(1, np.uint64)[0])


def generator(seed: int, purpose: str, epoch: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a new torch generator on `device`, seeded for the stream (seed, purpose, epoch)."""
    import torch

    return torch.Generator(device=device).manual_seed(stream_seed(seed, purpose, epoch))
