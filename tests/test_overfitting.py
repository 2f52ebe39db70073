"""The loss on the validation samples that rises again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import aldvae
from aldvae.analysis.answers import answer_sentences
from aldvae.analysis.series import Series
from aldvae.runs.records import Summary
from aldvae.runs.results import describe_answer
from aldvae.training.overfitting import overfit_since


def by_epoch(losses: np.ndarray) -> dict[int, float]:
    return dict(enumerate(losses.tolist(), start=1))


def valley(epochs: int, lowest: int, end: float, noise: float = 0.0) -> dict[int, float]:
    """A loss that falls from 1 to 0 at the epoch `lowest` and rises to `end`."""
    x = np.arange(1, epochs + 1)
    clean = np.interp(x, [1, lowest, epochs], [1.0, 0.0, end])
    return by_epoch(clean + noise * np.random.default_rng(0).normal(size=epochs))


@pytest.mark.parametrize("epochs", [20, 60, 200])
def test_the_lowest_epoch_is_told_where_the_loss_rises_again(epochs: int) -> None:
    lowest = epochs // 3
    assert abs((overfit_since(valley(epochs, lowest, 0.3)) or 0) - lowest) <= max(1, epochs // 20)


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e3))
def test_neither_origin_nor_unit_of_the_loss_matter(origin: float, unit: float) -> None:
    losses = valley(60, 20, 0.3, noise=0.01)
    assert overfit_since({e: origin + unit * loss for e, loss in losses.items()}) == overfit_since(losses)


def test_a_loss_that_falls_is_flat_or_rises_within_its_noise_is_none() -> None:
    assert overfit_since(valley(60, 60, 0.0)) is None
    assert overfit_since(by_epoch(np.ones(60))) is None
    assert overfit_since(valley(60, 30, 0.04)) is None
    assert overfit_since(valley(60, 30, 0.3, noise=0.3)) is None
    assert overfit_since({1: 1.0}) is None


def test_epochs_without_metrics_are_skipped() -> None:
    losses = valley(100, 40, 0.5)
    assert overfit_since({e: loss for e, loss in losses.items() if e % 5 == 0}) == 40


def test_a_run_that_learns_by_heart_says_so_and_names_the_epochs(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 3)) @ random.normal(size=(3, 200)) + random.normal(size=(60, 200))
    found = aldvae.find_size(x, epochs=60, curve=False, results_dir=tmp_path, progress=False)
    since = found.result.answer["overfit_since"]
    assert since is not None
    assert since < 45
    told = f"since epoch {since} the loss on the samples held out rises, as samples are learned by heart: use more"
    assert f"{told} samples, or --epochs {max(since, 20)}" in str(found)
    twice = Series((found.result, dataclasses.replace(found.result, config=found.result.config.override(seed=1))))
    assert f"with 2 of 2 seeds the loss on the samples held out rises since epoch {since}" in answer_sentences(twice)[0]


def test_runs_of_older_versions_say_what_they_said() -> None:
    answer = cast("Summary", {"n_informative": 3, "n_range": None, "settled_epoch": None, "epochs": 50})
    text = "3 dimensions carry information; this had not settled within 50 epochs"
    assert describe_answer(answer) == f"{text}: train for more"
    answer["overfit_since"] = None
    assert describe_answer(answer) == f"{text}: train for more"
    answer["overfit_since"] = 12
    assert describe_answer(answer).startswith(f"{text}, but since epoch 12 the loss")
