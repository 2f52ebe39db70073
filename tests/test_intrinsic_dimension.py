from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aldvae.config.run_config import RunConfig
from aldvae.config.start import start_size
from aldvae.data import intrinsic_dimension
from aldvae.data.dataset import Samples
from aldvae.data.intrinsic_dimension import estimate_dimension, two_nn
from aldvae.data.load import load_dataset
from aldvae.utils.errors import ConfigError
from tests.conftest import resolve, sweep


def uniform(dimension: int, n_samples: int = 2000, n_values: int = 40) -> np.ndarray:
    """Return samples of a uniform distribution on a cube of `dimension`, turned into a space of `n_values`."""
    random = np.random.default_rng(dimension)
    turn = np.linalg.qr(random.normal(size=(n_values, n_values)))[0][:dimension]
    points: np.ndarray = random.random((n_samples, dimension)) @ turn
    return points


@pytest.mark.parametrize("dimension", [1, 2, 3, 5, 8])
def test_the_dimension_of_a_linear_manifold_is_found(dimension: int) -> None:
    # At the borders of a cube, neighbours are missing, which makes larger dimensions look smaller.
    assert two_nn(uniform(dimension)) == pytest.approx(dimension, rel=0.1)


def test_the_dimension_of_a_curved_manifold_is_found() -> None:
    angles = np.random.default_rng(0).random((2000, 3)) * 2 * math.pi
    torus = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    assert two_nn(torus) == pytest.approx(3, rel=0.1)


def test_the_fit_agrees_with_its_closed_form() -> None:
    # The first neighbours are 1, 1, 2, 3 away and the second ones 3, 2, 3, 5; three of four are kept.
    points = np.array([[0.0], [1.0], [3.0], [6.0]])
    log_ratio, expected = np.log([1.5, 5 / 3, 2.0]), np.log([4 / 3, 2.0, 4.0])
    assert two_nn(points) == pytest.approx((log_ratio @ expected) / (log_ratio @ log_ratio))


@given(scale=st.floats(1e-3, 1e3), copies=st.integers(1, 3), seed=st.integers(0, 9))
def test_neither_scale_nor_order_nor_copies_change_the_dimension(scale: float, copies: int, seed: int) -> None:
    points = uniform(2, n_samples=50, n_values=3)
    changed = np.random.default_rng(seed).permutation(np.repeat(points, copies, axis=0))
    assert two_nn(changed * scale) == pytest.approx(two_nn(points))


def test_degenerate_samples_have_a_dimension() -> None:
    assert two_nn(np.ones((50, 4))) == 0
    assert two_nn(np.array([[0.0], [1.0], [1.0]])) == 0
    assert two_nn(np.eye(20)) == math.inf


def test_long_samples_are_estimated_on_fewer_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    points = torch.from_numpy(uniform(2, n_samples=3000)).float()
    assert estimate_dimension(Samples(points)) == two_nn(points[:2000].numpy())
    monkeypatch.setattr(intrinsic_dimension, "_MAX_VALUES", 40 * 100)
    assert estimate_dimension(Samples(points)) == two_nn(points[:100].numpy())


@pytest.mark.parametrize(
    ("dimension", "n_values", "start"),
    [(3.0, 784, 16), (8.9, 64, 18), (12.4, 784, 25), (90.0, 784, 128), (math.inf, 784, 128), (8.9, 9, 9), (0.0, 1, 2)],
)
def test_the_start_is_twice_the_dimension_within_limits(dimension: float, n_values: int, start: int) -> None:
    assert start_size(dimension, n_values) == start


def test_the_recommended_start_comes_from_the_training_samples() -> None:
    config = resolve("adaptive", "digits", protocol="recommended", validation=0.25)
    dimension = estimate_dimension(load_dataset("digits", validation=0.25, cache_dir=Path()).train)
    start = start_size(dimension, 64)
    assert config.model.init_dim == start > 16
    note = f"it starts with {start} dimensions, as the data have about {dimension:.1f}; --init-dim overrides this"
    assert config.notes() == [note]
    assert RunConfig.from_json(config.to_json()) == config
    jobs = sweep("seeds", "digits", protocol="recommended", validation=0.25)
    assert [job.config for job in jobs] == [config.override(seed=seed) for seed in range(5)]
    assert all(job.config.notes() == [note] for job in jobs)


def test_a_start_that_is_set_has_no_note() -> None:
    config = resolve("adaptive", "digits", protocol="recommended")
    assert config.override(init_dim=20).notes() == []
    assert resolve("adaptive", "digits", protocol="recommended", init_dim=20).notes() == []


def test_only_an_adaptive_run_under_the_recommended_protocol_starts_from_the_data(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", uniform(3, n_samples=300, n_values=12))
    own = str(tmp_path / "x.npy")
    assert resolve("adaptive", own, protocol="recommended", clusters=2).model.init_dim == 12
    assert resolve("adaptive", own, protocol="recommended", clusters=2, init_dim=5).model.init_dim == 5
    assert resolve("adaptive", "digits", protocol="recommended", min_dim=30).model.init_dim == 30
    assert resolve("adaptive", "digits", protocol="paper").model.init_dim == 32
    (job,) = sweep("grid", own, protocol="recommended", sizes=[4], seeds=[0], clusters=2)
    assert job.config.model.init_dim == 4
    assert resolve("fixed", "digits", protocol="recommended").model.init_dim == 32
    with pytest.raises(ConfigError, match="--limit 99999 is more than the 1797"):
        resolve("adaptive", "digits", protocol="recommended", limit=99999)
