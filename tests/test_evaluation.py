from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs
from sklearn.metrics import silhouette_score

from aldvae.errors import DivergedError
from aldvae.metrics.clustering import silhouette
from aldvae.metrics.evaluation import Evaluator
from aldvae.metrics.latent import active_units
from aldvae.models import build_vae
from aldvae.models.vae import VAE
from tests.conftest import digits

CPU = torch.device("cpu")


def evaluator(**changes: Any) -> Evaluator:
    options = {"n_clusters": 10, "fid_samples": 100, "silhouette_samples": 100, "seed": 0, "device": CPU, **changes}
    return Evaluator(digits().validation, options.pop("features", None), **options)


def small_vae() -> VAE:
    torch.manual_seed(0)
    return build_vae((1, 8, 8), 6, network="mlp", hidden_dim=16)


def test_silhouette_of_clear_clusters_is_that_of_their_labels() -> None:
    points, labels = make_blobs(200, centers=4, cluster_std=0.2, random_state=1)
    assert silhouette(points, 4, 0) == pytest.approx(silhouette_score(points, labels))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_silhouette_of_one_point_is_zero() -> None:
    assert silhouette(np.zeros((20, 3)), 4, 0) == 0.0


def test_active_units_count_what_varies_over_images() -> None:
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


def test_recon_loss_of_an_undecided_decoder_is_log_two_a_pixel() -> None:
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


def test_a_loss_that_is_no_number_names_the_epoch() -> None:
    model = small_vae()
    torch.nn.init.constant_(model.mu.bias, float("nan"))
    with pytest.raises(DivergedError, match="epoch 7: recon_loss is nan"):
        evaluator().evaluate(model, 7)
