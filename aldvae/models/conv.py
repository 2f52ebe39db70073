"""The convolutional network (EuroSAT; the paper, section 4.1)."""

from __future__ import annotations

from torch import Tensor, nn

from aldvae.models.vae import Network
from aldvae.utils.errors import ArgumentError

CHANNELS = 32
HIDDEN_DIM = 256
_LAYERS = 4


def _channels_last(maps: Tensor) -> Tensor:
    """Return feature maps (B, C, H, W) with equal values, on a CPU in channels-last memory order.

    Convolutions keep that order and are faster in it on a CPU. We permute axes because `vmap` ignores memory formats.
    """
    return maps.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) if maps.device.type == "cpu" else maps


class _FirstConvolution(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return super().forward(_channels_last(input))


class _Unflatten(nn.Unflatten):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return _channels_last(super().forward(input))


def build(shape: tuple[int, ...], hidden_dim: int | None, channels: int | None) -> Network:
    """Return a network of four strided convolutions and two fully connected layers, mirrored in the decoder.

    `shape` is (C, H, W). `channels` (None: 32) is the number of feature maps and `hidden_dim` (None: 256) the width of
    the fully connected layers. The encoder uses SiLU, the decoder ReLU. Where a layer of the encoder halves an odd
    side, the decoder pads the output to restore it. Raises `ArgumentError` unless height and width are at least 16.
    """
    if len(shape) != 3 or min(shape[1:]) < 2**_LAYERS:
        raise ArgumentError("network", f"conv needs images of at least 16 x 16 pixels, not {shape}; use mlp")
    width, channels = hidden_dim or HIDDEN_DIM, channels or CHANNELS
    sides = [tuple(side // 2**layer for side in shape[1:]) for layer in range(_LAYERS + 1)]
    flat = channels * sides[-1][0] * sides[-1][1]
    down: list[nn.Module] = []
    for layer in range(_LAYERS):
        kind, before = (nn.Conv2d, channels) if layer else (_FirstConvolution, shape[0])
        down += [kind(before, channels, 4, stride=2, padding=1), nn.SiLU()]
    encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(flat, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
    up: list[nn.Module] = []
    for large in reversed(sides[:-1]):
        after, odd = (shape[0] if large == sides[0] else channels), (large[0] % 2, large[1] % 2)
        up += [nn.ReLU(), nn.ConvTranspose2d(channels, after, 4, stride=2, padding=1, output_padding=odd)]
    decoder = nn.Sequential(
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, flat),
        _Unflatten(1, (channels, *sides[-1])),
        *up,
    )
    return Network(encoder, width, decoder, width)
