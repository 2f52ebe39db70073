"""Random streams that depend on what they are for, never on what was drawn before.

A run that is killed and resumed, or that computes other metrics, draws the same numbers as one that is not,
because every stream starts anew from (seed, purpose, epoch).
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
    """Return a fresh torch generator on `device` for the stream (seed, purpose, epoch)."""
    import torch

    return torch.Generator(device=device).manual_seed(stream_seed(seed, purpose, epoch))
