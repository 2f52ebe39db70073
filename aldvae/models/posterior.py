"""What the encoder's second head means: how it gives the scale of the posterior q(z|x)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Posterior = Callable[[Tensor], Tensor]


def gaussian(head_output: Tensor) -> Tensor:
    """Take what the head wrote (B, n_z) as log-variances: each dimension has its own (the paper, section 3.2)."""
    return head_output


def softmax(head_output: Tensor) -> Tensor:
    """Share out a standard deviation of 1 among the dimensions by a softmax over (B, n_z) (the authors' code).

    Returns the log-variances, each below 0. The scales of one sample add up to 1, so that no dimension can fall back to
    the prior, and a removal widens those that are left.
    """
    # Half precision is for the products alone.
    return 2 * F.log_softmax(head_output, dim=-1, dtype=torch.float32)


POSTERIORS: dict[str, Posterior] = {"gaussian": gaussian, "softmax": softmax}
