from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score, silhouette_score

from aldvae.metrics.clustering import agreement, find_clusters, silhouette
from aldvae.metrics.evaluation import Evaluator, check_samples
from aldvae.metrics.features import Features
from aldvae.metrics.frechet import Statistics, cached_statistics, statistics
from aldvae.metrics.latent import active_units, count_dimension_usage
from aldvae.models.build import build_vae
from aldvae.models.vae import VAE
from aldvae.utils.errors import ConfigError, DivergedError
from tests.conftest import digits, resolve

CPU = torch.device("cpu")


def evaluator(features: Features | None = None, **changes: Any) -> Evaluator:
    settings = {"fid_features": "none", "fid_samples": 100, "silhouette_samples": 100, **changes}
    return Evaluator(resolve("fixed", "digits", **settings), digits().validation, features, Path(), CPU)


def small_vae() -> VAE:
    torch.manual_seed(0)
    return build_vae((1, 8, 8), 6, network="mlp", hidden_dim=16)


def test_silhouette_of_clear_clusters_is_that_of_their_labels() -> None:
    points, labels = make_blobs(200, centers=4, cluster_std=0.2, random_state=1)
    clusters = find_clusters(points, 4, 0)
    assert silhouette(points, clusters) == pytest.approx(silhouette_score(points, labels))
    assert agreement(clusters, labels) == {"cluster_accuracy": 1.0, "nmi": pytest.approx(1), "ari": 1.0}


def test_silhouette_is_equation_one() -> None:
    points, groups = np.random.default_rng(0).normal(size=(30, 3)), np.arange(30) % 3
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    scores = []
    for i in range(30):
        inside = [distances[i, j] for j in range(30) if groups[j] == groups[i] and j != i]
        others = [distances[i, groups == group].mean() for group in range(3) if group != groups[i]]
        a, b = np.mean(inside), min(others)
        scores.append((b - a) / max(a, b))
    assert silhouette(points, groups) == pytest.approx(np.mean(scores))


@pytest.mark.parametrize("groups", [np.zeros(20, int), np.arange(20)])
def test_silhouette_of_one_group_or_of_groups_of_one_is_zero(groups: np.ndarray) -> None:
    assert silhouette(np.random.default_rng(0).normal(size=(20, 3)), groups) == 0.0


def test_cluster_accuracy_is_the_best_assignment() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])
    clusters = np.array([2, 2, 0, 0, 0, 0, 1, 1, 2])
    best = max(np.mean(np.array(p)[clusters] == labels) for p in permutations(range(3)))
    found = agreement(clusters, labels)
    assert found["cluster_accuracy"] == pytest.approx(best)
    assert found["ari"] == pytest.approx(adjusted_rand_score(clusters, labels))


@given(st.lists(st.integers(0, 3), min_size=8, max_size=30), st.integers(0, 99))
def test_agreement_does_not_depend_on_the_clusters_names(labels: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    classes, clusters = np.array(labels), random.integers(0, 5, len(labels))
    renamed = random.permutation(5)[clusters]
    assert agreement(renamed, classes) == pytest.approx(agreement(clusters, classes))


def test_dimensions_are_active_mixed_or_passive_by_the_samples_that_use_them() -> None:
    log_var = torch.zeros(100, 3)
    log_var[:, 0] = -3
    log_var[:30, 1] = -3
    assert count_dimension_usage(log_var) == {"dims_active": 1, "dims_mixed": 1, "dims_passive": 1}


def test_groups_may_be_the_classes_and_points_the_means() -> None:
    model = small_vae()
    metrics = [
        evaluator(silhouette_groups=groups, silhouette_on=on).evaluate(model, 1).metrics["silhouette"]
        for groups in ("clusters", "classes")
        for on in ("samples", "means")
    ]
    assert len(set(metrics)) == 4
    unlabelled = replace(digits().validation, labels=None, classes=())
    config = resolve("fixed", "digits", silhouette_groups="classes", fid_features="none")
    with pytest.raises(ConfigError, match="--silhouette-groups classes needs labels"):
        check_samples(config, unlabelled)


def test_reference_statistics_are_cached_and_a_damaged_file_is_rebuilt(tmp_path: Path) -> None:
    calls: list[int] = []

    def make() -> Statistics:
        calls.append(1)
        return statistics(torch.arange(12.0).reshape(4, 3) ** 2)

    first, second = cached_statistics(tmp_path, "key", make), cached_statistics(tmp_path, "key", make)
    assert torch.equal(first.factor, second.factor)
    assert torch.equal(first.mean, second.mean)
    assert len(calls) == 1
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:20])
    assert torch.equal(cached_statistics(tmp_path, "key", make).factor, first.factor)
    assert len(calls) == 2
    cached_statistics(tmp_path, "other", make)
    assert len(calls) == 3


def test_active_units_are_the_dimensions_whose_mean_varies_over_images() -> None:
    mu = torch.zeros(100, 3)
    mu[:, 0] = torch.linspace(-1, 1, 100)
    mu[:, 1] = 0.05 * torch.linspace(-1, 1, 100)
    mu[:, 2] = 5.0
    assert active_units(mu) == 1


def test_a_model_at_the_prior_has_no_kl_and_no_active_units() -> None:
    model = small_vae()
    for head in (model.mu, model.log_var):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    found = evaluator().evaluate(model, 1)
    assert found.kl == [0.0] * 6
    assert found.metrics["kl"] == 0
    assert found.metrics["active_units"] == 0


def test_recon_loss_of_a_decoder_with_zero_logits_is_log_two_per_pixel() -> None:
    model = small_vae()
    last = model.decoder[-2]  # type: ignore[index]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    assert evaluator().evaluate(model, 1).metrics["recon_loss"] == pytest.approx(64 * np.log(2), rel=1e-5)


def test_metrics_depend_on_seed_and_epoch_alone() -> None:
    model = small_vae()
    state = torch.random.get_rng_state()
    first = evaluator().evaluate(model, 3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert evaluator().evaluate(model, 3) == first
    assert evaluator().evaluate(model, 4) != first
    assert evaluator(seed=1).evaluate(model, 3) != first


def test_without_features_there_is_no_frechet_distance() -> None:
    assert not {"fid_recon", "fid_gen"} & set(evaluator().evaluate(small_vae(), 1).metrics)


def test_a_loss_that_is_not_a_number_names_the_epoch() -> None:
    model = small_vae()
    torch.nn.init.constant_(model.mu.bias, float("nan"))
    with pytest.raises(DivergedError, match="epoch 7: recon_loss is nan"):
        evaluator().evaluate(model, 7)
