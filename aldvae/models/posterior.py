"""Posteriors: how the output of the encoder's second head becomes the log-variance of q(z|x)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Posterior = Callable[[Tensor], Tensor]


def gaussian(head_output: Tensor) -> Tensor:
    """Return `head_output` (B, n_z) unchanged: it is the log-variance of each dimension (the paper, section 3.2)."""
    return head_output


def softmax(head_output: Tensor) -> Tensor:
    """Return log-variances (B, n_z) whose standard deviations are a softmax over the dimensions (the authors' code).

    The standard deviations of a sample add up to 1 and each log-variance is below 0. So no dimension can match the
    prior, and removing one widens the others.
    """
    # Float32 even under autocast: only matrix products and convolutions run in half precision.
    return 2 * F.log_softmax(head_output, dim=-1, dtype=torch.float32)


POSTERIORS: dict[str, Posterior] = {"gaussian": gaussian, "softmax": softmax}
