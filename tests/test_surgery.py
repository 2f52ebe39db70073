from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from aldvae.compression.slots import Head
from aldvae.compression.surgery import remove_neurons

HIDDEN = 7
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.05),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.05, amsgrad=True, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.05),
}


class Toy(nn.Module):
    """Two heads, `readers` readers, and an encoder that a removal must not change."""

    def __init__(self, latent_dim: int, bias: bool = True, readers: int = 1) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, HIDDEN)
        self.mu = nn.Linear(HIDDEN, latent_dim, bias=bias)
        self.log_var = nn.Linear(HIDDEN, latent_dim, bias=bias)
        self.reader = nn.Linear(latent_dim, 4, bias=bias)
        self.more_readers = nn.ModuleList(nn.Linear(latent_dim, 4, bias=bias) for _ in range(readers - 1))

    @property
    def heads(self) -> list[nn.Linear]:
        return [self.mu, self.log_var]

    @property
    def readers(self) -> list[nn.Module]:
        return [self.reader, *self.more_readers]

    def latents(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.relu(self.encoder(x))
        return self.mu(features), self.log_var(features)

    def forward(self, x: Tensor) -> Tensor:
        mu, log_var = self.latents(x)
        z = mu + torch.exp(0.5 * log_var)
        return torch.stack([reader(z) for reader in self.readers]).square().mean()

    def remove(self, removed: list[int], optimizer: torch.optim.Optimizer | None = None) -> None:
        remove_neurons(self.heads, self.readers, removed, optimizer)


def train(model: Toy, optimizer: torch.optim.Optimizer, x: Tensor, steps: int = 3) -> Tensor:
    for _ in range(steps):
        optimizer.zero_grad()
        loss: Tensor = model(x)
        loss.backward()
        optimizer.step()
    return loss


subsets = st.integers(3, 12).flatmap(
    lambda size: st.tuples(st.just(size), st.sets(st.integers(0, size - 1), max_size=size - 2))
)


@settings(deadline=None)
@given(subset=subsets, bias=st.booleans(), readers=st.integers(1, 3), name=st.sampled_from(list(OPTIMIZERS)))
def test_kept_outputs_and_moments_are_untouched(
    subset: tuple[int, set[int]], bias: bool, readers: int, name: str
) -> None:
    size, removed = subset
    keep = [i for i in range(size) if i not in removed]
    torch.manual_seed(size)
    x = torch.randn(5, 3)
    model = Toy(size, bias, readers)
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, x)
    mu, log_var = model.latents(x)
    before = {
        key: {k: v.clone() for k, v in optimizer.state.get(parameter, {}).items() if isinstance(v, Tensor)}
        for key, parameter in model.named_parameters()
    }

    model.remove(sorted(removed), optimizer)

    # Not bit by bit, because the matrix product may round differently at another size.
    torch.testing.assert_close(model.latents(x), (mu[:, keep], log_var[:, keep]), rtol=1e-5, atol=1e-6)
    for key, parameter in model.named_parameters():
        state = optimizer.state.get(parameter, {})
        for k, v in before[key].items():
            if v.ndim and key.startswith(("mu", "log_var")):
                v = v[keep]
            elif v.ndim and "reader" in key and key.endswith("weight"):
                v = v[:, keep]
            assert torch.equal(state[k], v), (key, k)


@settings(deadline=None)
@given(subset=subsets)
def test_the_outputs_of_readers_for_kept_dimensions_are_unchanged(subset: tuple[int, set[int]]) -> None:
    size, removed = subset
    keep = [i for i in range(size) if i not in removed]
    torch.manual_seed(0)
    model, z = Toy(size), torch.randn(6, size)
    with_zeros = z.clone()
    with_zeros[:, sorted(removed)] = 0
    expected = model.reader(with_zeros)
    model.remove(sorted(removed))
    torch.testing.assert_close(model.reader(z[:, keep]), expected)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_parameter_is_in_the_optimiser_and_moves(name: str) -> None:
    torch.manual_seed(0)
    model, x = Toy(8, readers=2), torch.randn(16, 3)
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, x)
    model.remove([0, 3, 7], optimizer)
    in_optimizer = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert {id(p) for p in in_optimizer} == {id(p) for p in model.parameters()}
    assert len(in_optimizer) == len(list(model.parameters()))
    assert set(optimizer.state) <= set(in_optimizer)
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    train(model, optimizer, x, steps=1)
    for key, parameter in model.named_parameters():
        assert not torch.equal(parameter, before[key]), key


def test_training_continues_as_if_the_removed_neurons_had_never_been_there() -> None:
    """Training is the same with a dimension whose weights are all zero, and without it."""
    torch.manual_seed(0)
    full, x = Toy(5), torch.randn(16, 3)
    with torch.no_grad():
        for layer in full.heads:
            layer.weight[2], layer.bias[2] = 0, 0
        full.reader.weight[:, 2] = 0
    cut = Toy(5)
    cut.load_state_dict(full.state_dict())
    # The dead dimension adds exp(0) times a weight of zero to the outputs; the gradient of this weight is not zero.
    full.reader.weight.register_hook(lambda grad: grad * torch.tensor([1.0, 1, 0, 1, 1]))
    optimizers = [torch.optim.Adam(model.parameters(), lr=0.05) for model in (full, cut)]
    for model, optimizer in zip((full, cut), optimizers, strict=True):
        train(model, optimizer, x, steps=1 if model is cut else 6)
    with torch.no_grad():
        cut.reader.weight[:, 2] = 0
    cut.remove([2], optimizers[1])
    train(cut, optimizers[1], x, steps=5)
    torch.testing.assert_close(cut.reader.weight, full.reader.weight[:, [0, 1, 3, 4]])
    torch.testing.assert_close(cut.mu.weight, full.mu.weight[[0, 1, 3, 4]])


def test_a_loss_kept_alive_does_not_hold_the_old_shape() -> None:
    model, x = Toy(6), torch.randn(4, 3)
    optimizer = torch.optim.Adam(model.parameters())
    kept_alive = train(model, optimizer, x)
    model.remove([1], optimizer)
    train(model, optimizer, x)
    assert kept_alive.grad_fn is not None


def test_one_head_for_means_and_log_variances() -> None:
    torch.manual_seed(0)
    head, reader, features = nn.Linear(HIDDEN, 10), nn.Linear(5, 4), torch.randn(3, HIDDEN)
    mu, log_var = head(features).chunk(2, dim=1)
    remove_neurons([Head(head, layout="blocks")], [reader], [0, 3])
    keep = [1, 2, 4]
    torch.testing.assert_close(head(features).chunk(2, dim=1), (mu[:, keep], log_var[:, keep]))
    assert (head.out_features, reader.in_features) == (6, 3)


def test_gradients_and_frozen_layers_are_carried_over() -> None:
    model, x = Toy(4), torch.randn(4, 3)
    model.log_var.requires_grad_(False)
    optimizer = torch.optim.Adam(p for p in model.parameters() if p.requires_grad)
    model(x).backward()
    expected = model.mu.weight.grad
    assert expected is not None
    model.remove([3], optimizer)
    assert torch.equal(model.mu.weight.grad, expected[:3])  # type: ignore[arg-type]
    assert not model.log_var.weight.requires_grad


@pytest.mark.parametrize("removed", [[0, 1], [0, 1, 2], range(3)])
def test_a_removal_that_leaves_fewer_than_two_is_refused(removed: list[int]) -> None:
    model = Toy(3)
    with pytest.raises(ValueError, match="2 must stay"):
        model.remove(list(removed))
    assert model.mu.out_features == 3


def assert_refused_without_a_change(model: Toy, optimizer: torch.optim.Optimizer, reason: str) -> None:
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ValueError, match=reason):
        model.remove([1], optimizer)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))


def test_nothing_is_changed_if_the_optimizer_does_not_hold_the_layers() -> None:
    model = Toy(4)
    assert_refused_without_a_change(model, torch.optim.Adam(model.encoder.parameters()), "optimizer does not hold")


@pytest.mark.skipif(not hasattr(torch.optim, "Adafactor"), reason="Adafactor is in torch since 2.5")
def test_nothing_is_changed_if_the_optimizers_state_has_another_shape() -> None:
    model = Toy(4)
    adafactor = torch.optim.Adafactor(model.parameters())
    train(model, adafactor, torch.randn(4, 3))
    assert_refused_without_a_change(model, adafactor, "Adafactor keeps")


def test_layers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TypeError, match=r"nn\.Linear, a convolution .*, not Embedding"):
        remove_neurons([nn.Embedding(3, 4)], [nn.Linear(4, 2)], [0])
    with pytest.raises(ValueError, match="different sizes"):
        remove_neurons([nn.Linear(2, 4)], [nn.Linear(4, 2), nn.Linear(3, 2)], [0])
    with pytest.raises(ValueError, match="does not fit"):
        remove_neurons([nn.Linear(2, 5)], [nn.Linear(4, 2)], [0])
    with pytest.raises(ValueError, match=r"positions \[4\]"):
        remove_neurons([nn.Linear(2, 4)], [nn.Linear(4, 2)], [4], latent_dim=4)
    layer = nn.Linear(2, 4)
    with pytest.raises(ValueError, match="listed twice"):
        remove_neurons([layer, layer], [nn.Linear(4, 2)], [0])
    with pytest.raises(TypeError, match="parametrised"):
        remove_neurons([nn.utils.parametrizations.weight_norm(layer)], [nn.Linear(4, 2)], [0])
    model = Toy(4)
    with pytest.raises(ValueError, match="LBFGS"):
        model.remove([0], torch.optim.LBFGS(model.parameters()))
    with pytest.raises(ValueError, match="at least one"):
        remove_neurons([], [nn.Linear(4, 2)], [0])
