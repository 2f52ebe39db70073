from __future__ import annotations

import copy
import io
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import aldvae
from aldvae.compression.rules.robust import RobustRule
from aldvae.compression.snapshot import Snapshot
from aldvae.compression.surgery import remove_neurons
from aldvae.utils.errors import ArgumentError

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adam": lambda p: torch.optim.Adam(p, amsgrad=True),
    "adamw": torch.optim.AdamW,
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
}


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(6, 8)
        self.mu, self.log_var = nn.Linear(8, 10), nn.Linear(8, 10)
        self.reader = nn.Linear(10, 6)

    @property
    def layers(self) -> list[nn.Linear]:
        return [self.mu, self.log_var, self.reader]

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.encoder(x).relu()
        out: Tensor = self.reader(self.mu(hidden) * self.log_var(hidden).exp())
        return out


def train(model: Small, optimizer: torch.optim.Optimizer, steps: int) -> None:
    random = torch.Generator().manual_seed(3)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(5, 6, generator=random)).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_after_an_undo_training_continues_as_if_nothing_had_been_removed(name: str) -> None:
    torch.manual_seed(0)
    model = Small()
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, 4)
    twin = copy.deepcopy(model)
    twin_optimizer = OPTIMIZERS[name](twin.parameters())
    # Loading alone would share the moments.
    twin_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))

    snapshot = Snapshot.take(model.layers, [optimizer])
    remove_neurons([model.mu, model.log_var], [model.reader], [0, 4, 7], optimizer)
    train(model, optimizer, 5)
    assert not torch.equal(model.encoder.weight, twin.encoder.weight)
    snapshot.restore(model.layers, [optimizer])

    train(model, optimizer, 6)
    train(twin, twin_optimizer, 6)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True))
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {id(p) for p in model.parameters()}


def test_a_snapshot_survives_a_file() -> None:
    model = Small()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    train(model, optimizer, 2)
    file = io.BytesIO()
    torch.save(Snapshot.take(model.layers, [optimizer]).to_state(), file)
    weights = copy.deepcopy(model.state_dict())
    train(model, optimizer, 2)
    file.seek(0)
    Snapshot.from_state(torch.load(file, weights_only=True)).restore(model.layers, [optimizer])
    assert all(value.device == p.device for p in model.parameters() for value in optimizer.state[p].values())
    assert all(torch.equal(model.state_dict()[name], value) for name, value in weights.items())


def metrics_of(best: int, size: int) -> dict[str, Any]:
    """Return the metrics of a model that uses all its dimensions and is best with `best` of them."""
    kl = [2.0 + 0.01 * n for n in range(size)]
    cost = 0.3 * max(size - best, 0) + 3 * max(best - size, 0)
    return {"recon_loss": 50.0 + cost - sum(kl), "kl": kl}


def compressor_of(model: Small) -> tuple[aldvae.Compressor, torch.optim.Optimizer]:
    optimizer = OPTIMIZERS["adam"](model.parameters())
    heads: list[nn.Module] = [model.mu, model.log_var]
    return aldvae.Compressor(heads=heads, readers=[model.reader], optimizer=optimizer, rule=RobustRule()), optimizer


def advance(compressor: aldvae.Compressor, model: Small, optimizer: torch.optim.Optimizer, epochs: int) -> list[int]:
    sizes = []
    for _ in range(epochs):
        train(model, optimizer, 1)
        compressor.step(**metrics_of(7, compressor.latent_dim))
        assert compressor.latent_dim == len(compressor.neurons) == model.mu.out_features == model.reader.in_features
        sizes.append(compressor.latent_dim)
    return sizes


def test_a_compressor_undoes_a_removal_that_goes_too_far_and_stops() -> None:
    torch.manual_seed(0)
    model = Small()
    compressor, optimizer = compressor_of(model)
    sizes = advance(compressor, model, optimizer, 30)
    assert any(after > before for before, after in pairwise(sizes))
    assert compressor.found
    assert (compressor.latent_dim, compressor.stop_latent_dim) == (7, 7)
    # The lowest KL divergence is removed first, also right after an undo.
    assert compressor.neurons == [3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("epochs", [6, 7, 9, 11, 13])
def test_resumes_in_the_middle_of_a_trial(epochs: int) -> None:
    torch.manual_seed(0)
    model = Small()
    first = copy.deepcopy(model)
    compressor, optimizer = compressor_of(model)
    advance(compressor, model, optimizer, epochs)
    file = io.BytesIO()
    torch.save([compressor.state_dict(), model.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    compressor2, optimizer2 = compressor_of(first)
    state, weights, moments = torch.load(file, weights_only=True)
    compressor2.load_state_dict(state)
    first.load_state_dict(weights)
    optimizer2.load_state_dict(moments)
    assert advance(compressor2, first, optimizer2, 20) == advance(compressor, model, optimizer, 20)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(first.parameters(), model.parameters(), strict=True))


def test_no_trial_starts_if_too_few_epochs_are_left_to_judge_it() -> None:
    model = Small()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    for epochs, size in ((8, 10), (9, 7)):
        compressor = aldvae.Compressor(
            heads=[model.mu, model.log_var],
            readers=[model.reader],
            optimizer=optimizer,
            rule=RobustRule(),
            epochs=epochs,
        )
        for _ in range(6):
            step = compressor.step(**metrics_of(2, compressor.latent_dim))
        assert compressor.latent_dim == size
        assert step.decision is not None
        assert ("too few epochs are left" in step.decision.reason) == (size == 10)
        for _ in range(6, epochs + 3):
            compressor.step(**metrics_of(9, compressor.latent_dim))


def test_the_robust_rule_refuses_arguments_with_which_it_cannot_undo() -> None:
    model = Small()
    heads: list[nn.Module] = [model.mu, model.log_var]
    for name, value in {"optimizer": None, "select": "random", "freeze": True, "stop": False}.items():
        arguments: dict[str, Any] = {"optimizer": OPTIMIZERS["adam"](model.parameters()), name: value}
        with pytest.raises(ArgumentError, match=f"^{name} must be .* with RobustRule"):
            aldvae.Compressor(heads=heads, readers=[model.reader], rule=RobustRule(), **arguments)
