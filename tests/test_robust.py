from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import aldvae
from aldvae.compression.rules.base import Decision
from aldvae.compression.rules.robust import Measurement, RobustRule, RobustState, extrapolate_loss
from aldvae.utils.errors import ArgumentError

# A simulated model: maps its size and the age of its weights in epochs to the reconstruction loss (without the KL
# divergence) and the KL divergence of each dimension, the largest first.
SimulatedModel = Callable[[int, int], tuple[float, list[float]]]


def falling_idle(true_dim: int) -> SimulatedModel:
    """Return a model of which `true_dim` dimensions become informative in turn; each missing one costs 3 nats."""

    def model(size: int, age: int) -> tuple[float, list[float]]:
        kl = [2.0 * (1 - math.exp(-max(age - n / 4, 0) / 3)) if n < true_dim else 0.01 for n in range(size)]
        return 100 + 50 / age + 3.0 * max(true_dim - size, 0) - sum(kl), kl

    return model


def using_all(best: int) -> SimulatedModel:
    """Return a model with informative dimensions only; each above `best` costs 0.3 nats, each missing one 3 nats."""

    def model(size: int, age: int) -> tuple[float, list[float]]:
        kl = [2.0 - 0.001 * n for n in range(size)]
        wiggle = 0.05 * (-1) ** age
        return 100 + 50 / age + 0.3 * max(size - best, 0) + 3 * max(best - size, 0) + wiggle - sum(kl), kl

    return model


@dataclass
class Trace:
    """The decisions of a rule, the size after each epoch, and the size found (None if the rule did not stop)."""

    decisions: list[Decision]
    sizes: list[int]
    found: int | None = None


def simulate(
    model: SimulatedModel, start: int, epochs: int = 120, rule: RobustRule | None = None, every: int = 1
) -> Trace:
    """Apply the decisions of a rule as `Compressor` does, with metrics every `every` epochs; return what it did."""
    rule = rule or RobustRule()
    state, size, age, before = rule.init(), start, 0, (start, 0)
    trace = Trace([], [])
    for epoch in range(1, epochs + 1):
        age += 1
        if epoch % every:
            trace.sizes.append(size)
            continue
        recon_loss, kl = model(size, age)
        state, decision = rule.adapt(state, epoch, size, {"recon_loss": recon_loss}, kl)
        if decision is not None:
            trace.decisions.append(decision)
            if decision.undo:
                size, age = before
            assert decision.latent_dim == size
            before = (size, age)
            size -= decision.remove
        trace.sizes.append(size)
        if decision is not None and decision.stop:
            trace.found = size
            break
    return trace


@given(st.integers(2, 30), st.integers(0, 70))
def test_finds_the_informative_dimensions_from_any_start(true_dim: int, more: int) -> None:
    """It finds 1.1 `true_dim`, rounded up, but at most the start; from a closer start, a size between the two."""
    start = true_dim + more
    found = simulate(falling_idle(true_dim), start).found
    if 0 < more < math.ceil(0.1 * start):
        # There are too few idle dimensions to show that the model switches them off, so trials decide.
        assert found is not None
        assert true_dim <= found <= start
    else:
        assert found == min(math.ceil(1.1 * true_dim), start)


@given(st.integers(3, 20))
def test_a_start_that_is_too_small_is_kept(start: int) -> None:
    trace = simulate(falling_idle(start + 10), start)
    assert trace.found == start
    assert all(not decision.undo or decision.latent_dim == start for decision in trace.decisions)


@pytest.mark.parametrize(("patience", "every", "tolerance"), [(3, 1, 0.1), (3, 3, 0.25), (4, 2, 0.1), (5, 1, 0.1)])
@given(best=st.integers(4, 40), more=st.integers(0, 60))
def test_bisection_finds_the_best_size_if_all_dimensions_are_used(
    patience: int, every: int, tolerance: float, best: int, more: int
) -> None:
    found = simulate(using_all(best), best + more, 200, RobustRule(patience=patience), every).found
    assert found is not None
    assert abs(found - best) <= max(1, round(tolerance * best))


@given(st.integers(2, 30), st.integers(0, 70), st.integers(2, 12))
def test_never_goes_below_the_smallest_size(true_dim: int, more: int, min_dim: int) -> None:
    start = max(true_dim + more, min_dim)
    for model in (falling_idle(true_dim), using_all(true_dim)):
        assert min(simulate(model, start, rule=RobustRule(min_dim=min_dim)).sizes) >= min_dim


def test_dimensions_that_all_become_informative_late_are_removed_on_trial() -> None:
    """A model without informative dimensions at first is not mistaken for one that switches dimensions off."""
    informative = using_all(8)

    def model(size: int, age: int) -> tuple[float, list[float]]:
        return informative(size, age) if age > 3 else (150.0, [0.001] * size)

    found = simulate(model, 16).found
    assert found is not None
    assert abs(found - 8) <= 1


def test_the_reason_names_the_smallest_size_allowed() -> None:
    trace = simulate(using_all(40), 32, rule=RobustRule(min_dim=30))
    assert trace.found in (30, 31, 32)
    assert "too small" not in trace.decisions[0].reason
    assert (
        simulate(using_all(2), 31, rule=RobustRule(min_dim=30)).decisions[-1].reason.endswith("smallest size allowed")
    )


def test_a_trial_removes_a_third_at_most() -> None:
    for start in range(3, 40):
        for decision in simulate(using_all(2), start).decisions:
            assert decision.remove <= max(1, decision.latent_dim / 3)


def test_a_removal_that_goes_too_far_is_undone_and_not_tried_again() -> None:
    trace = simulate(using_all(9), 16)
    undone = [n for n, decision in enumerate(trace.decisions) if decision.undo]
    assert undone
    sizes = [decision.latent_dim - decision.remove for decision in trace.decisions if decision.trial]
    assert len(sizes) == len(set(sizes))
    assert "undone" in trace.decisions[undone[0]].reason


def test_a_spare_dimension_stays_for_those_that_become_informative_later() -> None:
    trace = simulate(falling_idle(12), 100)
    sizes = trace.sizes[:-1]
    assert min(sizes) > 12


def test_waits_while_no_dimension_is_informative() -> None:
    trace = simulate(lambda size, age: (100 + 1 / age, [0.001] * size), 20)
    assert trace.found is None
    assert set(trace.sizes) == {20}
    assert {decision.reason for decision in trace.decisions} == {"no dimension carries information yet"}


def test_the_limit_of_idle_dimensions_depends_on_beta() -> None:
    """A dimension of KL divergence k is worth about beta k^2."""
    for beta, expected in ((1.0, 3), (0.25, 2), (0.05, 1), (4.0, 4)):
        rule = RobustRule(beta=beta)
        state, _ = rule.adapt(rule.init(), 1, 5, {"recon_loss": 9.0}, [0.5, 0.25, 0.12, 0.06, 0.01])
        assert state.history[-1].n_informative == expected
        assert state.history[-1].loss == pytest.approx(9.0 + beta * 0.94)


def test_extrapolates_a_linear_decrease() -> None:
    """The decrease of the last epochs continues, slowed down like 1 / age; a jump has no effect."""
    before = [Measurement(age, 100.0 - age, 3, 6.0) for age in range(4, 11)]
    expected, noise = extrapolate_loss(before, 13)
    assert expected == pytest.approx(90 - 3 * 10 / 13)
    assert noise == 0
    jumped = [Measurement(s.age, s.loss + (20 if s.age < 8 else 0), 3, 6.0) for s in before]
    assert extrapolate_loss(jumped, 13) == extrapolate_loss(before, 13)
    # Measured every three epochs, the decrease is still per epoch, but the noise is not divided by three.
    every_third = [Measurement(age, 100.0 - age + (age % 2), 3, 6.0) for age in range(1, 20, 3)]
    assert extrapolate_loss(every_third, 22)[1] == pytest.approx(1.4826)


@given(st.integers(1, 40), st.booleans())
def test_continues_from_a_state_that_was_stored_in_a_file(epochs: int, idle: bool) -> None:
    model, rule = (falling_idle(6) if idle else using_all(6)), RobustRule()

    def advance(state: RobustState, first: int, last: int) -> RobustState:
        for epoch in range(first, last):
            recon_loss, kl = model(8, epoch)
            state, _ = rule.adapt(state, epoch, 8, {"recon_loss": recon_loss}, kl)
        return state

    half = advance(rule.init(), 1, epochs)
    stored = json.loads(json.dumps(asdict(half)))
    assert advance(rule.restore(stored), epochs, epochs + 3) == advance(half, epochs, epochs + 3)


def test_missing_metrics_nan_and_arguments_out_of_range_are_refused() -> None:
    rule = RobustRule()
    with pytest.raises(KeyError, match="give both"):
        rule.adapt(rule.init(), 1, 4, {"recon_loss": 1.0})
    with pytest.raises(KeyError, match="give both"):
        rule.adapt(rule.init(), 1, 4, {}, [1.0] * 4)
    with pytest.raises(ValueError, match="nan"):
        rule.adapt(rule.init(), 1, 4, {"recon_loss": float("nan")}, [1.0] * 4)
    assert rule.adapt(rule.init(), 2, 4, {}) == (rule.init(), None)
    with pytest.raises(KeyError, match="decides every 3 epochs"):
        rule.adapt(rule.init(), 3, 4, {})
    for setting in ("patience", "min_dim"):
        with pytest.raises(ArgumentError, match=f"^{setting} must be"):
            RobustRule(**{setting: 0})
    for beta in (0.0, float("nan")):
        with pytest.raises(ArgumentError, match=r"^beta must be above 0"):
            RobustRule(beta=beta)


class OwnVAE(nn.Module):
    """A VAE of a user: one layer for both heads, a Gaussian likelihood with a learned scale."""

    def __init__(self, dim: int, latent_dim: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(dim, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
        self.heads = nn.Linear(128, 2 * latent_dim)
        self.decoder = nn.Sequential(nn.Linear(latent_dim, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
        self.out = nn.Linear(128, dim)
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reconstruction loss (B,) and the KL divergence of each dimension (B, n_z)."""
        mu, log_var = self.heads(self.encoder(x)).chunk(2, dim=1)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * log_var)
        squared = ((x - self.out(self.decoder(z))) * torch.exp(-self.log_scale)).square()
        recon_loss: Tensor = (0.5 * (squared + math.log(2 * math.pi)) + self.log_scale).sum(1)
        kl: Tensor = 0.5 * (mu.square() + log_var.exp() - 1 - log_var)
        return recon_loss, kl


def manifold(dim: int, curved: bool) -> Tensor:
    """Return points (10,000, 32) around a manifold of `dim` dimensions, flat or curved, with a noise of 0.1."""
    random = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(32, 32, generator=random))
    x = torch.randn(10_000, dim, generator=random) @ basis[:dim] * math.sqrt(32 / dim)
    x = x.tanh() if curved else x
    x = x + 0.1 * torch.randn(x.shape, generator=random)
    scaled: Tensor = (x - x.mean(0)) / x.std(0)
    return scaled


@pytest.mark.slow
@pytest.mark.parametrize("curved", [False, True], ids=["flat", "curved"])
@pytest.mark.parametrize("dim", [3, 8, 15])
def test_finds_the_dimension_of_a_manifold_in_a_users_loop(dim: int, curved: bool) -> None:
    torch.manual_seed(0)
    x = manifold(dim, curved)
    model = OwnVAE(32, 32)
    optimizer = torch.optim.Adam(model.parameters(), amsgrad=True, fused=True)
    compressor = aldvae.Compressor(
        heads=[aldvae.Head(model.heads, "blocks")],
        readers=[model.decoder[0]],
        optimizer=optimizer,
        rule=RobustRule(),
    )
    for _ in range(120):
        for index in torch.randperm(9000).split(64):
            recon_loss, kl = model(x[index])
            optimizer.zero_grad()
            (recon_loss.mean() + kl.sum(1).mean()).backward()
            optimizer.step()
        with torch.no_grad():
            recon_loss, kl = model(x[9000:])
        compressor.step(recon_loss=float(recon_loss.mean()), kl=kl.mean(0))
        if compressor.found:
            break
    assert compressor.found
    assert compressor.latent_dim == pytest.approx(math.ceil(1.1 * dim), abs=1)


@pytest.mark.parametrize("warmup", [0.1, 0.25])
def test_nothing_is_decided_during_the_warmup(warmup: float) -> None:
    """While the weight of the KL divergence rises, every dimension looks informative."""
    epochs = 120
    settled = falling_idle(5)

    def model(size: int, age: int) -> tuple[float, list[float]]:
        return settled(size, age) if age > warmup * epochs else (80.0, [3.0] * size)

    rule = RobustRule(epochs=epochs, warmup=warmup)
    trace = simulate(model, 30, epochs, rule)
    assert min(decision.epoch for decision in trace.decisions) > warmup * epochs
    assert trace.found == 6
    with pytest.raises(ArgumentError, match="warmup must be 0 or more"):
        RobustRule(warmup=1.0)
