from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aldvae.compression.rules.base import Decision
from aldvae.compression.rules.registry import rule_class
from aldvae.compression.rules.slopes import RULE_METRICS, AuthorsRule, Observation, PaperRule, rise, slope
from aldvae.utils.errors import ArgumentError

Curves = Mapping[str, Callable[[int], float]]
FALLING: Curves = {
    "recon_loss": lambda e: 100.0 - e,
    "silhouette": lambda e: -float(e),
    "fid_recon": lambda e: 50.0 - e,
    "fid_gen": lambda e: 80.0 - e,
}


def turning(at: int) -> Curves:
    """Return curves on which all four metrics fall until epoch `at`, then rise at the same rate."""
    return dict.fromkeys(RULE_METRICS, lambda e: abs(float(e - at)))


def replay(rule: PaperRule, curves: Curves, epochs: int, latent_dim: int = 100) -> list[Decision]:
    """Feed synthetic curves to a rule and apply its decisions; return them."""
    state, decisions = rule.init(), []
    for epoch in range(1, epochs + 1):
        state, decision = rule.adapt(state, epoch, latent_dim, {m: curve(epoch) for m, curve in curves.items()})
        if decision is not None:
            decisions.append(decision)
            latent_dim -= 0 if decision.stop else decision.remove
    return decisions


def test_removes_five_every_five_epochs_while_nothing_rises() -> None:
    decisions = replay(PaperRule(), FALLING, 40)
    assert [(d.epoch, d.latent_dim, d.remove) for d in decisions] == [(5 * i, 105 - 5 * i, 5) for i in range(1, 9)]
    assert not any(d.stop or d.slowed for d in decisions)


def test_stops_exactly_where_all_four_slopes_turn_positive() -> None:
    # Over the 20 epochs e-19..e the slope of |x - 30| is positive as soon as their middle, e - 9.5, is beyond 30.
    decisions = replay(PaperRule(slow_window=2), turning(30), 60)
    assert next(d.epoch for d in decisions if d.stop) == 40
    assert all(value > 0 for value in next(d for d in decisions if d.stop).slopes.values())


@pytest.mark.parametrize("falling", RULE_METRICS)
def test_a_single_falling_metric_prevents_the_stop(falling: str) -> None:
    decisions = replay(PaperRule(), {**turning(0), falling: lambda e: -float(e)}, 60)
    assert not any(d.stop for d in decisions)
    assert falling in decisions[-1].reason


def test_never_stops_before_a_full_window() -> None:
    rising: Curves = dict.fromkeys(RULE_METRICS, float)
    assert next(d.epoch for d in replay(PaperRule(patience=1, window=20), rising, 25) if d.stop) == 20
    assert next(d.epoch for d in replay(PaperRule(patience=1, window=7), rising, 25) if d.stop) == 7


def test_slows_down_once_and_for_good() -> None:
    # The Silhouette score rises from epoch 11 to 30 and falls before and after.
    curves = {**FALLING, "silhouette": lambda e: float(e if 10 < e <= 30 else -e)}
    decisions = replay(PaperRule(), curves, 80)
    slowed = [d.epoch for d in decisions if d.slowed]
    assert len(slowed) == 1
    assert all(d.remove == (5 if d.epoch < slowed[0] else 1) for d in decisions)


def test_does_not_slow_down_before_a_full_slow_window() -> None:
    curves = {**FALLING, "silhouette": float}
    assert [d.epoch for d in replay(PaperRule(), curves, 20) if d.slowed] == [10]


def test_a_constant_metric_has_slope_zero_and_does_not_stop() -> None:
    constant: Curves = dict.fromkeys(RULE_METRICS, lambda _: 0.1)
    decisions = replay(PaperRule(), constant, 40)
    assert not any(d.stop or d.slowed for d in decisions)
    assert set(decisions[-1].slopes.values()) == {0.0}


@given(latent_dim=st.integers(2, 40), step=st.integers(1, 9), min_dim=st.integers(2, 6), patience=st.integers(1, 6))
def test_never_goes_below_the_smallest_size(latent_dim: int, step: int, min_dim: int, patience: int) -> None:
    decisions = replay(PaperRule(step=step, min_dim=min_dim, patience=patience), FALLING, 60, max(latent_dim, min_dim))
    assert all(d.latent_dim - d.remove >= min_dim for d in decisions)
    assert decisions[-1].remove == min(step, decisions[-1].latent_dim - min_dim)


def test_reports_the_slopes_that_it_used() -> None:
    curves: Curves = {
        "recon_loss": lambda e: 3.0 * e,
        "silhouette": lambda e: -0.5 * e,
        "fid_recon": lambda e: 2.0 * e,
        "fid_gen": lambda _: 1.0,
    }
    decision = replay(PaperRule(), curves, 20)[-1]
    assert dict(decision.slopes) == pytest.approx(
        {"recon_loss": 3.0, "silhouette": -0.5, "fid_recon": 2.0, "fid_gen": 0.0}
    )


@given(st.lists(st.floats(-1e3, 1e3), min_size=25, max_size=25))
def test_slope_is_that_of_polyfit(values: list[float]) -> None:
    history = tuple(Observation(e, {"fid_gen": v}) for e, v in enumerate(values, start=1))
    expected = np.polyfit(np.arange(6, 26), values[5:], 1)[0]
    assert slope(history, "fid_gen", 25, 20) == pytest.approx(expected, abs=1e-6)


def test_slope_is_per_epoch_even_if_epochs_are_missing() -> None:
    history = tuple(Observation(e, {"silhouette": 2.0 * e}) for e in range(1, 40, 3))
    assert slope(history, "silhouette", 37, 20) == pytest.approx(2.0)


def test_thresholds_favour_reconstruction_or_clustering() -> None:
    slow_rise: Curves = dict.fromkeys(RULE_METRICS, lambda e: 0.01 * e)
    strict = PaperRule(thresholds={**dict.fromkeys(RULE_METRICS, 0.0), "recon_loss": 0.1})
    assert any(d.stop for d in replay(PaperRule(), slow_rise, 40))
    assert not any(d.stop for d in replay(strict, slow_rise, 40))
    falling_recon = {**slow_rise, "recon_loss": lambda e: -0.01 * e}
    careful = PaperRule(thresholds={**dict.fromkeys(RULE_METRICS, 0.0), "recon_loss": -0.1})
    without = PaperRule(thresholds={**dict.fromkeys(RULE_METRICS, 0.0), "recon_loss": float("-inf")})
    assert not any(d.stop for d in replay(PaperRule(), falling_recon, 40))
    assert any(d.stop for d in replay(careful, falling_recon, 40))
    assert any(d.stop for d in replay(without, falling_recon, 40))


def test_decides_without_fid_if_it_has_no_threshold() -> None:
    rule = PaperRule(thresholds={"recon_loss": 0.0, "silhouette": 0.0})
    curves: Curves = {"recon_loss": float, "silhouette": float}
    stopped = next(d for d in replay(rule, curves, 40) if d.stop)
    assert set(stopped.slopes) == {"recon_loss", "silhouette"}


def test_nan_is_an_error() -> None:
    rule = PaperRule()
    with pytest.raises(ValueError, match="epoch 3: fid_gen is nan"):
        rule.adapt(rule.init(), 3, 10, {**dict.fromkeys(RULE_METRICS, 1.0), "fid_gen": float("nan")})


def test_a_missing_metric_is_an_error() -> None:
    rule = PaperRule()
    with pytest.raises(KeyError, match="fid_gen"):
        rule.adapt(rule.init(), 1, 10, {"recon_loss": 1.0, "silhouette": 0.0, "fid_recon": 1.0})


@pytest.mark.parametrize(
    ("setting", "value"),
    [("patience", 0), ("window", 1), ("slow_window", -1), ("step", 0), ("slow_step", 0), ("min_dim", 1)],
)
def test_an_argument_out_of_range_is_named_as_in_python(setting: str, value: int) -> None:
    with pytest.raises(ArgumentError, match=f"^{setting} must be"):
        PaperRule(**{setting: value})  # type: ignore[arg-type]


def test_a_threshold_of_nan_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"^thresholds must hold a number for silhouette"):
        PaperRule(thresholds={"silhouette": float("nan")})


RISING: Curves = dict.fromkeys(RULE_METRICS, float)


def test_the_authors_slow_down_compares_two_means() -> None:
    # The score drops after epoch 10 and rises from there: its slope is positive long before its mean rises.
    curves = {**FALLING, "silhouette": lambda e: -float(e) if e <= 10 else e - 40.0}
    slowed = [[d.epoch for d in replay(PaperRule(slow_down=how), curves, 60) if d.slowed] for how in ("slope", "means")]
    assert slowed == [[20], [30]]


def test_two_means_need_two_windows() -> None:
    curves = {**RISING, "recon_loss": lambda e: -float(e)}
    assert [d.epoch for d in replay(PaperRule(slow_down="means"), curves, 40) if d.slowed] == [20]
    assert [d.epoch for d in replay(PaperRule(slow_down="means", slow_window=7), curves, 40) if d.slowed] == [15]


@given(st.lists(st.floats(-1e3, 1e3), min_size=20, max_size=20))
def test_rise_is_the_difference_of_two_means(values: list[float]) -> None:
    history = tuple(Observation(e, {"silhouette": v}) for e, v in enumerate(values, start=1))
    assert rise(history, "silhouette", 19, 8) == pytest.approx(np.mean(values[11:19]) - np.mean(values[3:11]), abs=1e-9)
    assert rise(history, "silhouette", 15, 8) is None


def test_the_authors_stop_leaves_out_the_newest_epoch() -> None:
    falls_at_last: Curves = dict.fromkeys(RULE_METRICS, lambda e: float(e) if e < 20 else -1000.0)
    always, slow = (replay(PaperRule(stopping=how), falls_at_last, 20)[-1] for how in ("always", "slow"))
    assert not always.stop
    assert slow.stop
    assert set(slow.slopes.values()) == {1.0}
    assert "over 19 epochs" in slow.reason


@given(st.lists(st.floats(-1e3, 1e3), min_size=25, max_size=25))
def test_the_authors_slopes_are_over_one_epoch_less(values: list[float]) -> None:
    decision = replay(PaperRule(stopping="slow"), dict.fromkeys(RULE_METRICS, lambda e: values[e - 1]), 25)[-1]
    expected = np.polyfit(np.arange(6, 25), values[5:24], 1)[0]
    assert list(decision.slopes.values()) == pytest.approx([expected] * 4, abs=1e-6)


def test_the_authors_rule_stops_in_the_slow_phase_only() -> None:
    # The decision at epoch 20 slows down; only later ones may stop.
    decisions = replay(AuthorsRule(), RISING, 40)
    assert [d.epoch for d in decisions if d.slowed] == [20]
    assert next(d.epoch for d in decisions if d.stop) == 25
    assert next(d.epoch for d in replay(PaperRule(), RISING, 40) if d.stop) == 20
    always_fast = replay(AuthorsRule(slow_window=50), RISING, 60)
    assert not any(d.stop or d.slowed for d in always_fast)
    assert always_fast[-1].reason == "above all thresholds, but not yet slowed down"


def test_the_rule_called_authors_is_the_papers_with_both_options() -> None:
    assert rule_class("authors") is AuthorsRule
    same = PaperRule(slow_down="means", stopping="slow")
    for curves in (FALLING, RISING, turning(30)):
        assert replay(AuthorsRule(), curves, 60) == replay(same, curves, 60)


def test_unknown_rule_names_the_nearest() -> None:
    with pytest.raises(ArgumentError, match=r"^rule papr is not known; did you mean paper"):
        rule_class("papr")
