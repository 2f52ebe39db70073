"""The network for short videos (SPRITES): 3-D convolutions and residual blocks with axial attention, as in VideoGPT."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aldvae.models.vae import Network
from aldvae.utils.errors import ArgumentError

CHANNELS = 32
HEADS = 2
BLOCKS = 4


class AxisAttention(nn.Module):
    """Self-attention along one axis: each position attends to those that differ from it in this axis only."""

    def __init__(self, channels: int, axis: int, length: int) -> None:
        """Attend along `axis` of (B, T, H, W, C), which is `length` long: 1 is time, 2 height, 3 width."""
        super().__init__()
        self.axis = axis
        # Small initial values: attention starts from the content and learns how much the position matters.
        self.positions = nn.Parameter(0.02 * torch.randn(length, channels))
        self.read = nn.Linear(channels, 3 * channels, bias=False)
        self.write = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended features, in the shape of x, (B, T, H, W, C)."""
        lines = x.transpose(self.axis, 3) + self.positions
        heads = self.read(lines).unflatten(-1, (3, HEADS, -1)).permute(4, 0, 1, 2, 5, 3, 6)
        # Lines share a dimension with the heads, not with the batch: CUDA's kernels are limited to batches of 65535,
        # and 1000 videos of SPRITES have 256000 lines along time.
        query, key, value = heads.flatten(2, 4)
        attended = F.scaled_dot_product_attention(query, key, value).view(heads.shape[1:])
        projected: Tensor = self.write(attended.transpose(3, 4).flatten(4))
        return projected.transpose(self.axis, 3)


class AxialAttention(nn.Module):
    """The sum of attention along time, height and width, each with its own weights."""

    def __init__(self, channels: int, grid: tuple[int, ...]) -> None:
        """Build the layers for feature maps (B, `channels`, T, H, W), where `grid` is (T, H, W)."""
        super().__init__()
        self.time, self.height, self.width = (
            AxisAttention(channels, axis, length) for axis, length in enumerate(grid, start=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return features in the shape of x, (B, C, T, H, W)."""
        x = x.movedim(1, -1)
        attended: Tensor = self.time(x) + self.height(x) + self.width(x)
        return attended.movedim(-1, 1)


class ResidualBlock(nn.Module):
    """A residual block: a bottleneck of convolutions followed by axial attention, added to its input."""

    def __init__(self, channels: int, grid: tuple[int, ...]) -> None:
        """Build the layers for feature maps (B, `channels`, T, H, W), where `grid` is (T, H, W)."""
        super().__init__()
        self.block = nn.Sequential(
            *_norm_relu(channels),
            nn.Conv3d(channels, channels // 2, 3, padding=1, bias=False),
            *_norm_relu(channels // 2),
            nn.Conv3d(channels // 2, channels, 1, bias=False),
            *_norm_relu(channels),
            AxialAttention(channels, grid),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return features in the shape of x, (B, C, T, H, W)."""
        residual: Tensor = self.block(x)
        return x + residual


class ScaledFlatten(nn.Module):
    """Flatten feature maps and divide them by the square root of their number of positions.

    No feature is negative, so Adam's first step changes a head's output by the learning rate times the sum of the
    features. Without the division, the 32768 features of SPRITES raised the KL divergence to 1e8 in two steps. After
    fifty steps it was still twenty times as high, because AMSGrad and the running statistics of batch normalisation
    remember large steps.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled features (B, C * T * H * W) of x (B, C, T, H, W)."""
        return x.flatten(1) / math.sqrt(math.prod(x.shape[2:]))


def build(shape: tuple[int, ...], hidden_dim: int | None, channels: int | None) -> Network:
    """Return the network for videos of `shape` (C, T, H, W), with `channels` feature maps (None: 32).

    Raises `ArgumentError` if T is odd, if H or W is not divisible by 4, if `channels` does not suit the attention
    heads, and for a `hidden_dim`, which this network does not have.
    """
    if hidden_dim is not None:
        raise ArgumentError("hidden_dim", "has no effect with the video network; use channels, or another network")
    channels = CHANNELS if channels is None else channels
    _check(shape, channels)
    _, frames, height, width = shape
    grid = (frames // 2, height // 4, width // 4)
    features = channels * grid[0] * grid[1] * grid[2]
    return Network(_encoder(shape[0], channels, grid), features, _decoder(shape[0], channels, grid), features)


def _check(shape: tuple[int, ...], channels: int) -> None:
    fits = len(shape) == 4 and min(shape) > 0 and shape[1] % 2 == 0 and shape[2] % 4 == 0 and shape[3] % 4 == 0
    # With a single position left, batch normalisation would fail on a batch of one.
    fits = fits and math.prod(shape[1:]) > 2 * 4 * 4
    if not fits:
        raise ArgumentError(
            "network",
            "video needs inputs of (channels, frames, height, width) with an even number of frames, height and width "
            f"divisible by 4, not {tuple(shape)}",
        )
    # An even number also suits the residual blocks, which halve it.
    if channels < HEADS or channels % HEADS:
        raise ArgumentError("channels", f"must be divisible by the {HEADS} heads of the attention, not {channels}")


def _encoder(inputs: int, channels: int, grid: tuple[int, ...]) -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(inputs, channels, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv3d(channels, channels, (3, 4, 4), stride=(1, 2, 2), padding=1),
        nn.ReLU(),
        nn.Conv3d(channels, channels, 3, padding=1),
        *_residual_blocks(channels, grid),
        ScaledFlatten(),
    )


def _decoder(outputs: int, channels: int, grid: tuple[int, ...]) -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (channels, *grid)),
        *_residual_blocks(channels, grid),
        nn.ConvTranspose3d(channels, channels, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose3d(channels, outputs, (3, 4, 4), stride=(1, 2, 2), padding=1),
    )


def _residual_blocks(channels: int, grid: tuple[int, ...]) -> list[nn.Module]:
    return [*(ResidualBlock(channels, grid) for _ in range(BLOCKS)), *_norm_relu(channels)]


def _norm_relu(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm3d(channels), nn.ReLU()]
