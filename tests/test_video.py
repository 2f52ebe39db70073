from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from aldvae.compression.surgery import remove_neurons
from aldvae.models.likelihood import LIKELIHOODS
from aldvae.models.vae import VAE, Network, kl_divergence
from aldvae.models.video import AxialAttention, AxisAttention, build
from aldvae.utils.errors import ArgumentError

SMALL = (3, 8, 16, 16)
GRID = (3, 4, 5)


def small_vae(latent_dim: int = 6) -> VAE:
    return VAE(build(SMALL, None, 8), latent_dim, LIKELIHOODS["bernoulli"]())


def with_statistics(network: Network) -> Network:
    """Randomise the running statistics of the batch normalisations; return the network in evaluation mode."""
    for part in (network.encoder, network.decoder):
        for layer in part.modules():
            if isinstance(layer, nn.BatchNorm3d):
                nn.init.normal_(layer.get_buffer("running_mean"), std=0.3)
                nn.init.uniform_(layer.get_buffer("running_var"), 0.5, 2.0)
        part.eval()
    return network


def smooth_videos(number: int) -> Tensor:
    """Return videos (number, *SMALL) in [0, 1] of a bright spot that moves on a coloured ground."""
    random = torch.Generator().manual_seed(1)
    ground, start, speed = (torch.rand(number, n, generator=random) for n in (3, 2, 2))
    time, side = torch.arange(SMALL[1]), torch.linspace(0, 1, SMALL[2])
    centre = start[:, None] + (speed[:, None] - 0.5) * time[:, None] / SMALL[1]
    rows, columns = ((side - centre[..., axis, None]).square() for axis in (0, 1))
    spot = torch.exp(-(rows[..., :, None] + columns[..., None, :]) / 0.05)
    return torch.maximum(ground[:, :, None, None, None] * 0.5, spot[:, None])


class Losses(NamedTuple):
    recon: float
    kl: float


def steps(model: VAE, x: Tensor, number: int, lr: float) -> list[Losses]:
    """Train on the batch `x`; return the losses of each step."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, amsgrad=True)
    losses = []
    for _ in range(number):
        out = model(x, torch.randn(len(x), model.latent_dim))
        recon = model.likelihood(out.decoded, x).mean()
        kl = kl_divergence(out.mu, out.log_var).sum(1).mean()
        optimizer.zero_grad()
        (recon + kl).backward()
        optimizer.step()
        losses.append(Losses(recon.item(), kl.item()))
    return losses


def reached(layer: nn.Module, x: Tensor, channel_dim: int) -> Tensor:
    """Return the mask (T, H, W) of outputs of `layer` that change when x[0] changes at position (1, 2, 3)."""
    changed = x.clone()
    changed.movedim(channel_dim, -1)[0, 1, 2, 3] += torch.randn(x.shape[channel_dim])
    with torch.no_grad():
        difference: Tensor = (layer(changed) - layer(x)).abs().amax(channel_dim)[0]
    return difference > 1e-6


@pytest.mark.parametrize(
    ("shape", "channels", "features"),
    [(SMALL, 8, 8 * 4 * 4 * 4), ((1, 2, 4, 12), 2, 2 * 1 * 1 * 3), ((3, 8, 64, 64), None, 32 * 4 * 16 * 16)],
)
def test_halves_time_once_and_space_twice(shape: tuple[int, ...], channels: int | None, features: int) -> None:
    network = build(shape, None, channels)
    assert network.encoder_dim == network.decoder_dim == features
    x = torch.rand(2, *shape)
    assert network.encoder(x).shape == (2, features)
    assert network.decoder(torch.randn(2, features)).shape == x.shape


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_attention_along_an_axis_stays_on_its_line(axis: int) -> None:
    torch.manual_seed(0)
    line = [1, 2, 3]
    expected = torch.zeros(GRID, dtype=torch.bool)
    expected[tuple(slice(None) if a == axis else at for a, at in enumerate(line, start=1))] = True
    found = reached(AxisAttention(4, axis, GRID[axis - 1]), torch.randn(2, *GRID, 4), channel_dim=-1)
    assert torch.equal(found, expected)


def test_axial_attention_reaches_along_each_axis_and_nowhere_else() -> None:
    torch.manual_seed(0)
    expected = torch.zeros(GRID, dtype=torch.bool)
    expected[:, 2, 3] = expected[1, :, 3] = expected[1, 2, :] = True
    assert torch.equal(reached(AxialAttention(4, GRID), torch.randn(2, 4, *GRID), channel_dim=1), expected)


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_attention_along_an_axis_is_that_of_torch_on_each_line(axis: int) -> None:
    torch.manual_seed(0)
    layer, reference = AxisAttention(8, axis, GRID[axis - 1]), nn.MultiheadAttention(8, 2, batch_first=True)
    reference.load_state_dict(
        {
            "in_proj_weight": layer.read.weight,
            "in_proj_bias": torch.zeros(24),
            "out_proj.weight": layer.write.weight,
            "out_proj.bias": layer.write.bias,
        }
    )
    x = torch.randn(2, *GRID, 8)
    lines = x.movedim(axis, -2)
    flat = lines.flatten(0, 2) + layer.positions
    expected = reference(flat, flat, flat)[0].view_as(lines).movedim(-2, axis)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_attention_knows_the_order_along_its_axis(axis: int) -> None:
    torch.manual_seed(0)
    layer, x = AxisAttention(4, axis, GRID[axis - 1]), torch.randn(1, *GRID, 4)
    assert (layer(x.flip(axis)) - layer(x).flip(axis)).abs().max() > 1e-4


def test_evaluation_does_not_depend_on_the_rest_of_the_batch() -> None:
    torch.manual_seed(0)
    network = with_statistics(build(SMALL, None, 8))
    with torch.inference_mode():
        for part, x in ((network.encoder, torch.rand(3, *SMALL)), (network.decoder, torch.randn(3, 8 * 4**3))):
            torch.testing.assert_close(part(x)[1:2], part(x[1:2]), rtol=1e-4, atol=1e-5)


def test_training_lowers_the_loss_in_evaluation_mode_too() -> None:
    torch.manual_seed(0)
    model, x = small_vae(), smooth_videos(4)
    # The cross-entropy of an exact reconstruction, which is not 0 for values between 0 and 1.
    floor = float(model.likelihood(x.logit(1e-6), x).mean())

    @torch.inference_mode()
    def evaluated() -> float:
        model.eval()
        loss = float(model.likelihood(model.decode(model.encode(x)[0]), x).mean())
        model.train()
        return loss - floor

    before, losses = evaluated(), [out.recon - floor for out in steps(model, x, 30, lr=3e-3)]
    assert losses[-1] < 0.5 * losses[0]
    assert evaluated() < 0.5 * before


def test_the_first_steps_leave_the_posterior_near_the_prior() -> None:
    torch.manual_seed(0)
    model = VAE(build((3, 8, 64, 64), None, 16), 10, LIKELIHOODS["bernoulli"]())
    assert max(out.kl for out in steps(model, torch.rand(4, 3, 8, 64, 64), 4, lr=1e-3)) < 20


def test_a_removal_does_not_change_the_other_latent_neurons() -> None:
    torch.manual_seed(0)
    model, x = small_vae(latent_dim=6), torch.rand(2, *SMALL)
    model.eval()
    before = model.encode(x)
    remove_neurons([model.mu, model.log_var], [model.reader], [0, 3, 5])
    after = model.encode(x)
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new, old[:, [1, 2, 4]])
    assert model.decode(after[0]).shape == x.shape


@pytest.mark.parametrize(
    "shape", [(1, 28, 28), (3, 7, 64, 64), (3, 8, 62, 64), (3, 8, 64, 62), (3, 0, 64, 64), (0, 8, 64, 64), (12,)]
)
def test_refuses_shapes_that_do_not_halve(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ArgumentError, match=r"network video needs .* even number of frames, .* divisible by 4, not "
    ) as e:
        build(shape, None, None)
    assert str(shape) in str(e.value)


@pytest.mark.parametrize("channels", [-2, 0, 1, 33])
def test_refuses_channels_that_do_not_divide(channels: int) -> None:
    with pytest.raises(ArgumentError, match=f"channels .* 2 heads .* not {channels}"):
        build(SMALL, None, channels)


def test_refuses_hidden_layers() -> None:
    with pytest.raises(ArgumentError, match=r"hidden_dim .* use channels"):
        build(SMALL, 400, None)
