"""How long runs take, told by a few training steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from aldvae.config.execution import Execution, Schedule
from aldvae.sweeps.eta import EpochTimes
from aldvae.sweeps.jobs import JobList
from aldvae.sweeps.runner import describe_sweep
from aldvae.training import rehearsal
from aldvae.training.rehearsal import rehearse_epoch
from tests.conftest import resolve, sweep

CPU = torch.device("cpu")


@pytest.fixture
def second_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each training step takes a second, each image in Inception two."""
    monkeypatch.setattr(rehearsal, "time_step", lambda _: 1.0)
    monkeypatch.setattr(rehearsal, "_inception_seconds", lambda _: 2.0)


@pytest.mark.usefixtures("second_steps")
@pytest.mark.parametrize(
    ("dataset", "overrides", "seconds"),
    [
        # 1,797 digits, of which three tenths are held out, in steps of 64.
        ("digits", {}, 20),
        ("digits", {"limit": 100}, 2),
        # 54,000 images, whose files are not read; twice 500 images in Inception.
        ("mnist", {"fid_features": "classifier"}, 844),
        ("mnist", {}, 844 + 2000),
        ("mnist", {"metrics_every": 5}, 844 + 400),
    ],
)
def test_an_epoch_has_its_steps_and_inceptions_images(
    dataset: str, overrides: dict[str, int | str], seconds: float
) -> None:
    config = resolve("adaptive", dataset, protocol="paper", **overrides)  # type: ignore[arg-type]
    assert rehearse_epoch(config, CPU) == pytest.approx(seconds)


def test_own_data_are_not_rehearsed(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(60, 5)))
    assert rehearse_epoch(resolve("fixed", str(tmp_path / "x.npy"), init_dim=2, protocol=None), CPU) is None


def test_a_rehearsal_leaves_random_numbers_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    seconds = rehearse_epoch(resolve("fixed", "digits", init_dim=4), CPU)
    assert seconds is not None
    assert seconds > 0
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("second_steps")
def test_measured_epochs_count_more_than_rehearsed_ones() -> None:
    times, config = EpochTimes(), resolve("fixed", "digits", init_dim=4, epochs=10)
    assert times.remaining(config) is None
    times.rehearse(config, CPU)
    assert times.remaining(config) == pytest.approx(200)
    assert times.remaining(config, 4) == pytest.approx(120)
    with_curve = resolve("adaptive", "digits", protocol="recommended", init_dim=4, epochs=10)
    assert times.remaining(with_curve) == pytest.approx(300)
    assert not times.is_measured(config)
    times.add(config, seconds=6.0, epochs=2)
    times.rehearse(config, CPU)
    assert times.is_measured(config)
    assert times.remaining(config) == pytest.approx(30)


@pytest.mark.usefixtures("second_steps")
def test_a_sweep_says_how_long_it_will_take(tmp_path: Path) -> None:
    jobs = JobList(sweep("seeds", "digits", seeds=[0, 1], init_dim=4, epochs=9, protocol="paper"))
    text = describe_sweep(jobs, Execution(results_dir=tmp_path), Schedule(jobs=2))
    assert "about 3:00 for 2 of them, 2 at a time" in text
    assert "for 2 told by a few training steps" in text
