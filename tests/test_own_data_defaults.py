"""What a run on one's own data uses where nothing is set: it follows the samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aldvae.config.execution import Execution
from aldvae.config.resolve import own_data
from aldvae.config.sample_counts import count_epochs, held_out_fraction
from aldvae.data import own
from aldvae.training.inputs import InputCache, load_inputs
from aldvae.training.loop import run
from aldvae.utils.errors import ConfigError
from tests.conftest import Cli, resolve

RANDOM = np.random.default_rng(0)


@given(st.integers(10, 10**8))
def test_enough_samples_are_held_out_and_most_are_trained_on(n_samples: int) -> None:
    held_out = round(n_samples * held_out_fraction(n_samples))
    assert 2 <= held_out <= 0.201 * n_samples + 0.5
    assert held_out <= 10_100
    assert held_out + 0.5 >= 0.99 * min(500, 0.2 * n_samples)


@pytest.mark.parametrize(
    ("n_samples", "fraction"), [(60, 0.2), (569, 0.2), (2500, 0.2), (4000, 0.125), (10_000, 0.1), (300_000, 0.0333)]
)
def test_held_out_fractions(n_samples: int, fraction: float) -> None:
    assert held_out_fraction(n_samples) == fraction


@pytest.mark.parametrize(
    ("n_train", "epochs"), [(1, 100), (240, 100), (3200, 100), (9000, 35), (16_000, 20), (290_000, 20)]
)
def test_epochs_follow_the_number_of_steps_within_limits(n_train: int, epochs: int) -> None:
    assert count_epochs(n_train, 64) == epochs


def save(path: Path, x: np.ndarray, **arrays: np.ndarray) -> str:
    np.savez(path, x=x, **arrays)  # type: ignore[arg-type]
    own.load.cache_clear()
    return str(path)


def test_explicit_settings_override_what_follows_the_samples(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npz", RANDOM.normal(size=(300, 6)))
    config = resolve("adaptive", path, protocol=None)
    assert (config.data.validation, config.data.clusters, config.training.epochs) == (0.2, None, 100)
    assert (config.metrics.fid_samples, config.metrics.silhouette_samples) == (60, 500)
    explicit = resolve("adaptive", path, protocol=None, validation=0.5, clusters=4, epochs=7, fid_samples=30)
    assert (explicit.data.validation, explicit.data.clusters, explicit.training.epochs) == (0.5, 4, 7)
    assert (explicit.metrics.fid_samples, explicit.metrics.silhouette_samples) == (30, 150)
    limited = resolve("adaptive", path, protocol=None, limit=50)
    assert limited.metrics.fid_samples == 10
    assert resolve("adaptive", path, protocol=None, fid_features="none").metrics.fid_samples == 500
    small_batches = resolve("fixed", path, protocol=None, batch_size=1)
    assert small_batches.training.epochs == 21


def test_a_chosen_number_makes_the_same_run_as_a_given_one(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npz", RANDOM.normal(size=(300, 6)))
    chosen = resolve("adaptive", path, protocol=None)
    given = resolve("adaptive", path, protocol=None, epochs=100, validation=0.2, fid_samples=60)
    assert given == chosen
    assert given.name == chosen.name
    assert (chosen.to_json()["epochs"], chosen.to_json()["clusters"]) == (100, None)


@pytest.mark.parametrize(
    ("dataset", "overrides", "epochs"),
    [
        ("mnist", {}, 20),
        ("sprites", {}, 20),
        ("eurosat", {"limit": 10_000}, 35),
        ("eurosat", {"limit": 10_000, "batch_size": 32}, 20),
        ("fashionmnist", {"limit": 3000}, 100),
        ("mnist", {"limit": 10**6}, 20),
        ("mnist", {"epochs": 200}, 200),
        ("digits", {}, 200),
        ("digits", {"limit": 300}, 200),
    ],
)
def test_epochs_of_the_papers_datasets_follow_their_samples(
    dataset: str, overrides: dict[str, Any], epochs: int
) -> None:
    settings = {"init_dim": 16, **overrides}
    assert resolve("adaptive", dataset, protocol="recommended", **settings).training.epochs == epochs
    assert resolve("fixed", dataset, protocol="recommended", **settings).training.epochs == epochs
    paper = {"mnist": 200, "fashionmnist": 200, "eurosat": 200, "sprites": 300, "digits": 200}[dataset]
    assert resolve("adaptive", dataset, protocol="paper", **settings).training.epochs == overrides.get("epochs", paper)


def test_other_protocols_and_datasets_keep_their_numbers(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npz", RANDOM.normal(size=(300, 6)), labels=np.arange(300) % 3)
    for protocol in ("paper", "authors"):
        config = resolve("adaptive", path, protocol=protocol)
        assert (config.data.validation, config.data.clusters, config.training.epochs) == (0.1, 3, 200)
        assert config.metrics.fid_samples == {"paper": 500, "authors": 100}[protocol]
    digits = resolve("fixed", "digits", protocol=None)
    assert (digits.data.validation, digits.training.epochs, digits.metrics.fid_samples) == (0.3, 200, 500)


@pytest.mark.parametrize(("n_classes", "clusters"), [(1, None), (2, 2), (19, 19), (20, None), (100, None)])
def test_there_are_as_many_clusters_as_classes_where_these_tell_something(
    tmp_path: Path, n_classes: int, clusters: int | None
) -> None:
    path = save(tmp_path / "x.npz", RANDOM.normal(size=(100, 6)), labels=np.arange(100) % n_classes)
    assert resolve("fixed", path, protocol=None).data.clusters == clusters


def test_rules_that_decide_on_the_silhouette_score_ask_for_clusters(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npz", RANDOM.normal(size=(100, 6)))
    for rule in ("paper", "authors"):
        with pytest.raises(ConfigError, match=f"--clusters is needed: --rule {rule} decides"):
            resolve("adaptive", path, protocol=None, rule=rule)
    assert resolve("adaptive", path, protocol=None, rule="robust").data.clusters is None


def test_a_run_without_labels_leaves_the_silhouette_score_out_and_says_so(cli: Cli, tmp_path: Path) -> None:
    pd.DataFrame(RANDOM.normal(size=(60, 5)) * [1, 10, 1e6, 1e-3, 1]).to_csv(tmp_path / "mine.csv", index=False)
    result = cli("adaptive", "--dataset=mine.csv", "--epochs=12", "--hidden-dim=8")
    assert result.returncode == 0, result.stderr
    counts = "60 vectors of 5 values: 48 to train on, 12 held out; 12 behind each Fréchet distance; 12 epochs of 1 step"
    assert f"aldvae: {counts} (options: --validation" in result.stderr
    assert "aldvae: no Silhouette score, since the data have no labels; --clusters K" in result.stderr
    (path,) = (tmp_path / "runs").iterdir()
    metrics = pd.read_csv(path / "metrics.csv")
    assert metrics[["silhouette", "nmi"]].isna().all(axis=None)
    assert metrics["fid_gen"].notna().all()
    assert pd.read_csv(path / "latent_space.csv")["cluster"].isna().all()
    assert json.loads((path / "config.json").read_text())["settings"]["fid_samples"] == 12
    assert cli("report", "runs").returncode == 0
    assert cli("show", "runs").returncode == 0


@pytest.mark.parametrize("first", [True, False])
def test_channels_may_come_before_height_and_width(tmp_path: Path, first: bool) -> None:
    images, videos = RANDOM.random((12, 9, 11, 3)), RANDOM.random((12, 5, 9, 11, 3))
    expected = np.moveaxis(images, -1, 1), np.moveaxis(videos, -1, 1)
    for x, wanted in zip((images, videos), expected, strict=True):
        path = save(tmp_path / "x.npz", np.moveaxis(x, -1, x.ndim - 3) if first else x)
        assert np.array_equal(own.load(Path(path), None, tmp_path).x.numpy(), wanted.astype(np.float32))


def test_video_of_odd_size_gets_a_network_that_supports_it(tmp_path: Path) -> None:
    for shape, network in {(20, 5, 9, 11, 1): "mlp", (20, 4, 8, 12, 1): "video", (20, 2, 4, 4, 1): "mlp"}.items():
        path = save(tmp_path / "v.npz", RANDOM.random(shape))
        config = resolve("adaptive", path, protocol=None, epochs=1)
        assert config.model.network == network
        load_inputs(config, Execution(own_data=own_data(path), cache_dir=tmp_path), InputCache())


def test_a_network_that_does_not_suit_the_samples_is_refused_before_a_directory_is_made(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npz", RANDOM.normal(size=(100, 6)))
    execution = Execution(own_data=own_data(path), cache_dir=tmp_path, results_dir=tmp_path / "runs")
    with pytest.raises(ConfigError, match="--network conv needs images"):
        run(resolve("adaptive", path, protocol=None, network="conv"), execution)
    assert not (tmp_path / "runs").exists()


def test_labels_in_a_table_are_its_classes(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": RANDOM.random(12), "labels": ["x", "y", "x"] * 4, "b": RANDOM.random(12)})
    frame.to_csv(tmp_path / "t.csv", index=False)
    own.load.cache_clear()
    samples = own.load(tmp_path / "t.csv", None, tmp_path)
    assert (samples.shape, samples.classes) == ((2,), ("x", "y"))
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1, 0] * 4


def test_clusters_cannot_be_favoured_without_clusters(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npz", RANDOM.normal(size=(100, 6)))
    with pytest.raises(ConfigError, match="--favour clustering needs clusters; add --clusters"):
        resolve("adaptive", path, protocol=None, favour="clustering")
    assert resolve("adaptive", path, protocol=None, favour="clustering", clusters=3).data.clusters == 3
