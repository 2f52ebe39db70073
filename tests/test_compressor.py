from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import aldvae
from aldvae.compression.rules.slopes import PaperRule
from aldvae.utils.errors import ArgumentError


class Small(nn.Module):
    def __init__(self, latent_dim: int = 20) -> None:
        super().__init__()
        self.mu, self.log_var = nn.Linear(4, latent_dim), nn.Linear(4, latent_dim)
        self.reader = nn.Linear(latent_dim, 4)


def compressor_of(model: Small, **options: object) -> tuple[aldvae.Compressor, torch.optim.Optimizer]:
    optimizer = torch.optim.Adam(model.parameters())
    compressor = aldvae.Compressor(
        heads=[model.mu, model.log_var],
        readers=[model.reader],
        optimizer=optimizer,
        **options,  # type: ignore[arg-type]
    )
    return compressor, optimizer


def step_all(compressor: aldvae.Compressor, value: float, kl: list[float] | None = None) -> aldvae.Step:
    """End an epoch with the same value for all four metrics."""
    return compressor.step(kl=kl, recon_loss=value, silhouette=value, fid_recon=value, fid_gen=value)


def test_shrinks_the_layers_every_fifth_epoch() -> None:
    model = Small()
    compressor, _ = compressor_of(model)
    sizes = []
    for epoch in range(1, 13):
        step = step_all(compressor, -epoch)
        assert step.latent_dim == compressor.latent_dim == model.mu.out_features == model.reader.in_features
        sizes.append(step.latent_dim)
    assert sizes == [20] * 4 + [15] * 5 + [10] * 3


def test_names_removed_neurons_by_their_first_position() -> None:
    model = Small(10)
    compressor, _ = compressor_of(model, select="kl", rule=PaperRule(step=2, patience=1))
    weights = model.mu.weight.detach().clone()
    removed: list[int] = []
    for epoch in range(1, 4):
        # The lower its first position, the higher the KL divergence of a neuron.
        step = step_all(compressor, -epoch, kl=[float(-n) for n in compressor.neurons])
        removed += step.neurons
    assert sorted(removed) == [4, 5, 6, 7, 8, 9]
    assert compressor.neurons == [0, 1, 2, 3]
    assert torch.equal(model.mu.weight, weights[:4])


def test_stops_for_good_when_the_rule_stops() -> None:
    model = Small()
    compressor, _ = compressor_of(model, rule=PaperRule(window=5))
    for epoch in range(1, 31):
        step_all(compressor, epoch)
    assert compressor.found
    assert (compressor.stop_epoch, compressor.stop_latent_dim) == (5, 20)
    assert model.mu.out_features == 20


def test_without_stop_it_shrinks_to_the_smallest_size_and_records_the_stop() -> None:
    model = Small()
    compressor, _ = compressor_of(model, rule=PaperRule(window=5, slow_window=50), stop=False)
    for epoch in range(1, 31):
        step_all(compressor, epoch)
    assert (compressor.stop_epoch, compressor.stop_latent_dim) == (5, 20)
    assert model.mu.out_features == 2


def test_removes_nothing_at_the_last_epoch() -> None:
    model = Small()
    compressor, _ = compressor_of(model, epochs=10)
    for epoch in range(1, 11):
        step_all(compressor, -epoch)
    assert model.mu.out_features == 15


def test_resumes_from_its_state() -> None:
    def advance(compressor: aldvae.Compressor, first: int, last: int) -> None:
        for epoch in range(first, last + 1):
            step_all(compressor, (epoch - 12.0) ** 2)

    whole = Small()
    torch.manual_seed(1)
    compressor, _ = compressor_of(whole, seed=7)
    advance(compressor, 1, 12)
    state, weights = compressor.state_dict(), {k: v.clone() for k, v in whole.state_dict().items()}
    advance(compressor, 13, 40)

    resumed = Small()
    compressor2, _ = compressor_of(resumed, seed=7)
    compressor2.load_state_dict(state)
    resumed.load_state_dict(weights)
    advance(compressor2, 13, 40)
    assert compressor2.state_dict() == compressor.state_dict()
    assert all(torch.equal(resumed.state_dict()[k], v) for k, v in whole.state_dict().items())


def parameters(*layers: nn.Module) -> list[nn.Parameter]:
    return [parameter for layer in layers for parameter in layer.parameters()]


def test_frozen_layers_are_trained_only_until_the_first_removal() -> None:
    model, x = Small(), torch.randn(8, 4)
    free = nn.Linear(4, 4)
    groups: list[dict[str, Any]] = [{"params": model.parameters()}, {"params": free.parameters(), "lr": 0.1}]
    optimizer = torch.optim.Adam(groups)
    compressor = aldvae.Compressor(
        heads=[model.mu, model.log_var], readers=[model.reader], optimizer=optimizer, freeze=True
    )

    def moved() -> list[bool]:
        before = [p.detach().clone() for p in parameters(model, free)]
        optimizer.zero_grad()
        features = free(x)
        model.reader(model.mu(features) + model.log_var(features)).square().sum().backward()
        optimizer.step()
        return [not torch.equal(p, old) for p, old in zip(parameters(model, free), before, strict=True)]

    assert all(moved())
    for size in (15, 10):
        for epoch in range(5):
            step_all(compressor, -epoch)
        assert model.reader.in_features == size
        assert moved() == [False] * 6 + [True] * 2
        in_optimizer = [id(p) for group in optimizer.param_groups for p in group["params"]]
        assert in_optimizer == [id(p) for p in free.parameters()]
        assert set(optimizer.state) == set(free.parameters())
        assert not any(p.requires_grad or p.grad is not None for p in parameters(model))


def test_frozen_layers_stay_frozen_when_resumed() -> None:
    for removals in (0, 1):
        compressor, optimizer = compressor_of(Small(), freeze=True)
        for epoch in range(5 * removals + 1):
            step_all(compressor, -epoch)
        resumed = Small()
        again, optimizer2 = compressor_of(resumed, freeze=True)
        again.load_state_dict(compressor.state_dict())
        optimizer2.load_state_dict(optimizer.state_dict())
        assert {p.requires_grad for p in resumed.parameters()} == {removals == 0}
        assert len(optimizer2.param_groups[0]["params"]) == (0 if removals else 6)


def test_errors_name_what_is_missing() -> None:
    compressor, _ = compressor_of(Small())
    with pytest.raises(KeyError, match="fid_gen"):
        compressor.step(recon_loss=1.0, silhouette=0.1, fid_recon=1.0)
    with pytest.raises(ArgumentError, match=r"^select lsat is not known; did you mean last"):
        compressor_of(Small(), select="lsat")
    by_kl, _ = compressor_of(Small(), select="kl", rule=PaperRule(patience=1))
    with pytest.raises(ArgumentError, match=r"^kl must be the KL divergence of all 20 dimensions"):
        step_all(by_kl, 1)


@pytest.mark.parametrize("rule", [PaperRule(), aldvae.RobustRule(), aldvae.ConsolidatingRule(epochs=20)])
def test_a_posterior_of_another_size_than_the_heads_is_refused_at_the_first_step(rule: Any) -> None:
    """Two joint heads, of means and log-variances each, pass for 20 dimensions; a posterior of 10 tells otherwise."""
    compressor, _ = compressor_of(Small(), rule=rule)
    metrics: Any = {"recon_loss": 1.0, "silhouette": 0.1, "fid_recon": 1.0, "fid_gen": 1.0}
    with pytest.raises(ArgumentError, match=r"^kl must have 20 values, the latent size of the heads, not 10"):
        compressor.step(kl=[1.0] * 10, **metrics)
    with pytest.raises(ArgumentError, match=r"^mu must be \(N, 20\), not \(7, 10\)"):
        compressor.step(mu=torch.zeros(7, 10), log_var=torch.zeros(7, 10), **metrics)
