"""Consolidation: the same function in other directions, and copies of one factor found to be one."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import aldvae
from aldvae.compression.consolidation import consolidate
from aldvae.compression.principal_directions import LatentStatistics
from tests.test_surgery import OPTIMIZERS, Toy, train


def latents(model: Toy, samples: int = 60) -> tuple[Tensor, Tensor, Tensor]:
    """Return samples with the posterior means and log-variances of `model`."""
    x = torch.randn(samples, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        mu, log_var = model.latents(x)
    return x, mu, log_var


def turn(
    model: Toy, statistics: LatentStatistics, keep: int | None = None, optimizer: torch.optim.Optimizer | None = None
) -> None:
    readers = model.readers
    mu, log_var = model.heads
    consolidate(mu=mu, log_var=log_var, readers=readers, statistics=statistics, keep=keep, optimizer=optimizer)


@given(st.integers(2, 12), st.integers(1, 3), st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_all_directions_together_are_the_same_function_of_the_means(size: int, readers: int, seed: int) -> None:
    torch.manual_seed(seed)
    model = Toy(size, readers=readers)
    _, mu, log_var = latents(model)
    before = [reader(mu) for reader in model.readers]
    turn(model, LatentStatistics.measure(mu, log_var))
    _, mu, log_var = latents(model)
    for reader, expected in zip(model.readers, before, strict=True):
        torch.testing.assert_close(reader(mu), expected, rtol=1e-4, atol=1e-4)
    # Like the prior over all samples: mean 0, variance 1, no two directions correlated.
    torch.testing.assert_close(mu.mean(0), torch.zeros(size), rtol=0, atol=1e-4)
    off_diagonal = torch.cov(mu.T) * (1 - torch.eye(size))
    torch.testing.assert_close(off_diagonal, torch.zeros(size, size), rtol=0, atol=1e-3)


@pytest.mark.parametrize("copies", [2, 3, 5])
def test_copies_of_one_factor_become_one_direction(copies: int) -> None:
    """Of two factors, one lies in several dimensions: two directions carry everything, and keeping them is exact."""
    torch.manual_seed(0)
    size = 2 + copies
    model = Toy(size)
    with torch.no_grad():
        model.mu.weight[2:] = model.mu.weight[0]
        model.mu.bias[2:] = model.mu.bias[0]
        model.log_var.weight.zero_()
        model.log_var.bias.fill_(-3.0)
    _, mu, log_var = latents(model)
    statistics = LatentStatistics.measure(mu, log_var)
    information = statistics.information
    assert (information[:2] > 0.1).all()
    assert int((information > 1e-6).sum()) == 2
    expected = model.reader(mu)
    turn(model, statistics, keep=2)
    assert (model.mu.out_features, model.reader.in_features) == (2, 2)
    torch.testing.assert_close(model.reader(latents(model)[1]), expected, rtol=1e-4, atol=1e-4)


def test_the_information_of_independent_dimensions_is_that_of_a_channel() -> None:
    """A Gaussian channel carries 0.5 log(1 + signal / noise) nats."""
    mu = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 1.0, 0.1])
    log_var = torch.log(torch.tensor([0.1, 0.5, 1.0])).expand_as(mu)
    information = LatentStatistics.measure(mu, log_var).information
    expected = [0.5 * math.log1p(ratio) for ratio in (90.0, 2.0, 0.01)]
    assert information.tolist() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_continues_with_the_optimizers_state(name: str) -> None:
    torch.manual_seed(0)
    model = Toy(6)
    optimizer = OPTIMIZERS[name](model.parameters())
    x, mu, log_var = latents(model)
    train(model, optimizer, x)
    _, mu, log_var = latents(model)
    before = {name: set(optimizer.state[model.mu.weight])}
    turn(model, LatentStatistics.measure(mu, log_var), keep=4, optimizer=optimizer)
    assert {name: set(optimizer.state[model.mu.weight])} == before
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in model.parameters()}
    copies = [parameter.clone() for parameter in model.parameters()]
    loss = train(model, optimizer, x)
    assert torch.isfinite(loss)
    assert all(not torch.equal(a, b) for a, b in zip(copies, model.parameters(), strict=True))


def test_averages_of_gradients_become_those_of_the_new_parameters() -> None:
    """With all directions kept and a latent space centred on 0, the gradient of the same loss changes as they do."""
    torch.manual_seed(0)
    model = Toy(5)
    x, mu, log_var = latents(model)
    with torch.no_grad():
        model.mu.bias.sub_(mu.mean(0))
    _, mu, log_var = latents(model)

    def gradients() -> list[Tensor]:
        loss = model.reader(model.latents(x)[0]).square().mean()
        return list(torch.autograd.grad(loss, [model.mu.weight, model.mu.bias, model.reader.weight]))

    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    for parameter, gradient in zip((model.mu.weight, model.mu.bias, model.reader.weight), gradients(), strict=True):
        optimizer.state[parameter] = {"momentum_buffer": gradient.clone()}
    turn(model, LatentStatistics.measure(mu, log_var), optimizer=optimizer)
    for parameter, gradient in zip((model.mu.weight, model.mu.bias, model.reader.weight), gradients(), strict=True):
        torch.testing.assert_close(optimizer.state[parameter]["momentum_buffer"], gradient, rtol=1e-3, atol=1e-6)


def test_what_does_not_fit_is_refused_and_nothing_changes() -> None:
    model = Toy(6)
    weight = model.mu.weight
    statistics = LatentStatistics.measure(*latents(model)[1:])
    with pytest.raises(ValueError, match="keep must be 2 to 6 directions, not 7"):
        turn(model, statistics, keep=7)
    with pytest.raises(ValueError, match="statistics are those of 6 dimensions, not of 4"):
        turn(Toy(4), statistics)
    with pytest.raises(ValueError, match="need a bias"):
        turn(Toy(6, bias=False), statistics)
    with pytest.raises(ValueError, match="give its layout"):
        consolidate(mu=nn.Linear(3, 12), log_var=model.log_var, readers=[model.reader], statistics=statistics)
    with pytest.raises(TypeError, match=r"must be nn.Linear, a convolution"):
        consolidate(mu=nn.Embedding(3, 6), log_var=model.log_var, readers=[model.reader], statistics=statistics)
    rprop = torch.optim.Rprop(model.parameters())
    train(model, rprop, latents(model)[0])
    with pytest.raises(ValueError, match=r"Rprop keeps .*, which cannot follow a change of basis"):
        turn(model, statistics, optimizer=rprop)
    assert model.mu.weight is weight
    assert aldvae.consolidate is consolidate
