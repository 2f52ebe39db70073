"""The recommended rule, on synthetic spectra and on data whose number of factors is known."""

from __future__ import annotations

from dataclasses import asdict
from math import exp

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import aldvae
from aldvae.compression.information import Directions
from aldvae.compression.rules.base import Decision
from aldvae.compression.rules.consolidate import ConsolidatingRule
from aldvae.utils.errors import ArgumentError
from tests.test_surgery import OPTIMIZERS, Toy, train


class Course:
    """Directions of which `n` carry 1 nat from the start, and one more from the epoch `late` on (0: never)."""

    def __init__(self, n: int, late: int = 0, copies: int = 0, idle: float = 1e-4) -> None:
        self.n, self.late, self.copies, self.idle = n, late, copies, idle

    def spectrum(self, epoch: int, size: int) -> list[float]:
        n = self.n + bool(self.late and epoch >= self.late)
        return [1.0 if j < n else self.idle for j in range(size)]


def replay(rule: ConsolidatingRule, course: Course, size: int, epochs: int) -> tuple[list[Decision], int]:
    """Apply the decisions of `rule` to a latent space of `size`; return them and the final size."""
    rule = rule.with_epochs(epochs)
    state, decisions = rule.init(), []
    for epoch in range(1, epochs + 1):
        metrics, kl = {"copies": float(course.copies)}, course.spectrum(epoch, size)
        state, decision = rule.adapt(state, epoch, size, metrics, kl if rule.is_due(epoch) else None)
        assert rule.restore(asdict(state)) == state
        if decision is not None:
            decisions.append(decision)
            assert decision.keep is not None
            size = len(decision.keep) + decision.grow
            if decision.stop:
                break
    return decisions, size


@given(
    n=st.integers(1, 30),
    start=st.integers(2, 120),
    epochs=st.integers(20, 400),
    warmup=st.sampled_from([0.0, 0.1, 0.2]),
)
@settings(deadline=None, max_examples=60)
def test_any_start_ends_at_the_number_of_informative_directions(n: int, start: int, epochs: int, warmup: float) -> None:
    decisions, size = replay(ConsolidatingRule(warmup=warmup), Course(n), start, epochs)
    last = decisions[-1]
    assert last.stop
    assert last.n_informative == n
    assert size == max(2, n)
    assert last.settled_epoch is not None
    # Found in 40% of the epochs, but for the epochs between two measurements.
    assert last.settled_epoch <= 0.4 * epochs + 3 * max(1, round(epochs / 100))


def test_a_direction_that_becomes_informative_late_finds_a_spare() -> None:
    decisions, size = replay(ConsolidatingRule(warmup=0.2), Course(5, late=60), 64, 100)
    assert size == 6
    assert decisions[-1].settled_epoch == 65
    assert all(len(d.keep or ()) > 5 for d in decisions)


def test_nothing_is_answered_during_the_warmup_and_its_start_is_corrected_once() -> None:
    decisions, _ = replay(ConsolidatingRule(warmup=0.4), Course(4), 100, 100)
    early = [d for d in decisions if d.epoch < 40]
    assert [(d.epoch, len(d.keep or ()), d.n_informative) for d in early] == [(20, 16, None)]
    assert decisions[1].epoch == 40


def test_a_start_below_the_answer_grows() -> None:
    decisions, size = replay(ConsolidatingRule(warmup=0.2), Course(15), 4, 40)
    assert decisions[0].grow > 0
    assert (size, decisions[-1].n_informative) == (15, 15)


def test_spares_that_are_copies_go_once_the_number_has_settled() -> None:
    with_copies, _ = replay(ConsolidatingRule(), Course(5, copies=2), 40, 100)
    without, _ = replay(ConsolidatingRule(), Course(5), 40, 100)
    assert min(len(d.keep or ()) for d in with_copies[:-1]) == 5
    assert min(len(d.keep or ()) for d in without[:-1]) == 8


def test_a_spectrum_that_still_changes_is_not_settled_and_says_so() -> None:
    rule = ConsolidatingRule(epochs=100)
    state, last = rule.init(), None
    for epoch in range(1, 100):
        # The number of informative directions grows by one every two epochs.
        state, decision = rule.adapt(state, epoch, 64, {}, [1.0] * (epoch // 2) + [1e-4] * (64 - epoch // 2))
        last = decision or last
    assert last is not None
    assert last.stop
    assert last.settled_epoch is None
    assert "train for more epochs" in last.reason


def test_a_direction_that_rises_steadily_is_counted_on_and_one_that_falls_is_not() -> None:
    def spectrum(epoch: int) -> list[float]:
        return [1.0, 1.0, 0.02 * exp(0.05 * epoch), 0.19 * exp(-0.02 * (epoch - 20)), *[1e-4] * 12]

    rule = ConsolidatingRule(epochs=100)
    state, decisions = rule.init(), []
    for epoch in range(1, 31):
        state, decision = rule.adapt(state, epoch, 16, {}, spectrum(epoch))
        decisions += [decision] if decision else []
    # At epoch 30, the third carries 0.09 nats and the fourth 0.16.
    assert decisions[-1].n_informative == 2
    assert "2 informative, 1 rising, 1 falling" in decisions[-1].reason


def test_the_limit_follows_beta() -> None:
    state, rule = None, ConsolidatingRule(beta=4.0, epochs=20)
    state = rule.init()
    for epoch in range(1, 20):
        state, decision = rule.adapt(state, epoch, 4, {}, [1.0, 0.06, 0.04, 0.01])
    assert decision is not None
    # 0.1 / sqrt(4) = 0.05 nats; half of it is 0.025, twice 0.1.
    assert (decision.n_informative, decision.n_range) == (2, (1, 3))


def test_the_weight_that_the_caller_gives_is_the_warmup() -> None:
    rule = ConsolidatingRule(epochs=100)
    state, epochs = rule.init(), []
    for epoch in range(1, 100):
        state, decision = rule.adapt(state, epoch, 32, {"beta": min(1.0, epoch / 50)}, Course(4).spectrum(epoch, 32))
        epochs += [epoch] if decision is not None and decision.n_informative is not None else []
    assert epochs[0] == 50


@pytest.mark.parametrize(("name", "value"), [("beta", 0.0), ("warmup", 1.0), ("warmup", -0.1), ("min_dim", 1)])
def test_arguments_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ArgumentError, match=name):
        ConsolidatingRule(**{name: value})  # type: ignore[arg-type]


def test_without_a_budget_or_a_posterior_it_cannot_decide() -> None:
    with pytest.raises(ArgumentError, match="epochs must be given"):
        ConsolidatingRule().init()
    rule = ConsolidatingRule(epochs=10)
    with pytest.raises(KeyError, match="mu and log_var"):
        rule.adapt(rule.init(), 1, 8, {})
    with pytest.raises(ValueError, match="nan"):
        rule.adapt(rule.init(), 1, 2, {}, [float("nan"), 1.0])


def posterior(factors: int, size: int, samples: int = 1000, curved: bool = False) -> tuple[Tensor, Tensor]:
    """Return means that tell `factors` independent factors, spread over `size` dimensions, and small variances."""
    random = torch.Generator().manual_seed(0)
    z = torch.randn(samples, factors, generator=random)
    if curved:
        z = torch.cat([z, 0.5 * z.square()], 1)
    mu = z @ torch.linalg.qr(torch.randn(size, z.shape[1], generator=random))[0].T
    return mu, torch.full((samples, size), -4.0 if curved else -6.0)


@pytest.mark.parametrize("factors", [1, 3, 6])
def test_copies_of_a_factor_count_once(factors: int) -> None:
    directions = Directions.measure(*posterior(factors, 12))
    assert sum(value >= 0.1 for value in directions.unique) == factors
    # Variance 1 over noise exp(-6): 0.5 log(1 + e^6) nats.
    assert directions.information[:factors] == pytest.approx([3.0] * factors, abs=0.1)


def test_a_curved_copy_carries_information_that_is_not_its_own() -> None:
    directions = Directions.measure(*posterior(2, 12, curved=True))
    assert sum(value >= 0.1 for value in directions.information) == 4
    assert directions.copies() == 2
    assert all(u <= i for u, i in zip(directions.unique, directions.information, strict=True))


@pytest.mark.parametrize("samples", [1, 2, 4])
def test_few_samples_are_no_error(samples: int) -> None:
    directions = Directions.measure(*posterior(3, 5, samples))
    assert len(directions.unique) == 5


def compressor_of(model: Toy, optimizer: torch.optim.Optimizer, epochs: int = 20) -> aldvae.Compressor:
    return aldvae.Compressor(
        heads=model.heads, readers=model.readers, optimizer=optimizer, rule=ConsolidatingRule(), epochs=epochs
    )


@pytest.mark.parametrize("name", list(OPTIMIZERS))
@pytest.mark.parametrize("resumed_at", [None, 1, 5, 18])
def test_a_compressor_consolidates_and_comes_back_from_its_state(name: str, resumed_at: int | None) -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(1))
    model = Toy(24)
    optimizer = OPTIMIZERS[name](model.parameters())
    compressor = compressor_of(model, optimizer)
    for epoch in range(1, 21):
        train(model, optimizer, x, steps=1)
        mu, log_var = (value.detach() for value in model.latents(x))
        compressor.step(mu=mu, log_var=log_var)
        if epoch == resumed_at:
            state = compressor.state_dict(), model.state_dict(), optimizer.state_dict()
            model = Toy(24)
            optimizer = OPTIMIZERS[name](model.parameters())
            compressor = compressor_of(model, optimizer)
            compressor.load_state_dict(state[0])
            model.load_state_dict(state[1])
            optimizer.load_state_dict(state[2])
    assert compressor.found
    assert compressor.latent_dim == model.mu.out_features < 24
    assert compressor.answer is not None
    if resumed_at is not None:
        torch.manual_seed(0)
        reference = Toy(24)
        optimizer = OPTIMIZERS[name](reference.parameters())
        undisturbed = compressor_of(reference, optimizer)
        for _ in range(20):
            train(reference, optimizer, x, steps=1)
            mu, log_var = (value.detach() for value in reference.latents(x))
            undisturbed.step(mu=mu, log_var=log_var)
        assert undisturbed.answer == compressor.answer
        assert all(torch.equal(a, b) for a, b in zip(reference.parameters(), model.parameters(), strict=True))


def test_the_compressor_refuses_what_cannot_be_consolidated() -> None:
    model = Toy(6)
    optimizer = torch.optim.Adam(model.parameters())
    joint = nn.Linear(3, 12)
    with pytest.raises(ArgumentError, match=r"heads\[0\] has 12 outputs .* give its layout"):
        aldvae.Compressor(heads=[joint], readers=model.readers, optimizer=None, rule=ConsolidatingRule(), epochs=10)
    with pytest.raises(ArgumentError, match="epochs must be given"):
        aldvae.Compressor(heads=model.heads, readers=model.readers, optimizer=optimizer, rule=ConsolidatingRule())
    with pytest.raises(ArgumentError, match="freeze must be False"):
        aldvae.Compressor(
            heads=model.heads, readers=model.readers, optimizer=None, rule=ConsolidatingRule(epochs=9), freeze=True
        )
    compressor = compressor_of(model, optimizer)
    assert compressor.needs_posterior
    with pytest.raises(ArgumentError, match=r"mu must be \(N, 6\)"):
        compressor.step(mu=torch.zeros(10, 5), log_var=torch.zeros(10, 5))


def test_a_plain_loop_tells_the_dimensions_of_linear_data() -> None:
    random = torch.Generator().manual_seed(3)
    x = torch.randn(1000, 3, generator=random) @ torch.randn(3, 20, generator=random)
    x = x + 0.1 * torch.randn(x.shape, generator=random)
    torch.manual_seed(0)
    body, mu, log_var = nn.Sequential(nn.Linear(20, 64), nn.ReLU()), nn.Linear(64, 12), nn.Linear(64, 12)
    reader, out = nn.Linear(12, 64), nn.Linear(64, 20)
    parameters = [p for layer in (body, mu, log_var, reader, out) for p in layer.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    compressor = aldvae.Compressor(
        heads=[mu, log_var], readers=[reader], optimizer=optimizer, rule=ConsolidatingRule(), epochs=30
    )
    for epoch in range(30):
        weight = min(1.0, (epoch + 1) / 6)
        for batch in x.split(50):
            features = body(batch)
            m, v = mu(features), log_var(features)
            z = m + torch.randn_like(m) * (0.5 * v).exp()
            squared = (out(torch.relu(reader(z))) - batch).square().sum(1) / (2 * 0.3**2)
            kl = 0.5 * (m.square() + v.exp() - 1 - v).sum(1)
            optimizer.zero_grad()
            (squared + weight * kl).mean().backward()
            optimizer.step()
        with torch.no_grad():
            features = body(x)
            compressor.step(mu=mu(features), log_var=log_var(features), beta=weight)
    assert compressor.answer is not None
    assert (compressor.answer.n_informative, compressor.latent_dim) == (3, 3)
