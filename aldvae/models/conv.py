"""The convolutional network (EuroSAT; the paper, section 4.1)."""

from __future__ import annotations

from torch import Tensor, nn

from aldvae.models.vae import Network
from aldvae.utils.errors import ConfigError

CHANNELS = 32
HIDDEN_DIM = 256
_LAYERS = 4


def _channels_last(maps: Tensor) -> Tensor:
    """Return maps (B, C, H, W) as they are, on a CPU with the channels of a pixel beside each other in memory.

    Convolutions keep that order and are faster in it there. Moving axes does it, since `vmap` knows no memory formats.
    """
    return maps.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) if maps.device.type == "cpu" else maps


class _FirstConvolution(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return super().forward(_channels_last(input))


class _Unflatten(nn.Unflatten):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return _channels_last(super().forward(input))


def build(shape: tuple[int, ...], hidden_dim: int | None, channels: int | None) -> Network:
    """Return four strided convolutions of `channels` (default 32) and two layers of `hidden_dim` units (default 256).

    The encoder uses SiLU, the decoder mirrors it with ReLU. `shape` is (C, H, W), with at least 16 pixels a side, else
    `ConfigError`; sides that are odd on the way down get their size back on the way up.
    """
    if len(shape) != 3 or min(shape[1:]) < 2**_LAYERS:
        raise ConfigError("network", f"conv takes images of 16 pixels a side or more, not {shape}; use mlp")
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
