"""One table names the metrics; everything that stores, compares or draws them follows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from aldvae.analysis.grid_search import CRITERIA
from aldvae.config.execution import Execution
from aldvae.metrics.table import FRECHET, HEADLINE, METRICS
from aldvae.reporting.figures.paper import ROWS
from aldvae.reporting.figures.style import metric_label
from aldvae.reporting.terminal import FIELDS
from aldvae.runs.records import COLUMNS
from aldvae.runs.results import read_result
from aldvae.training.loop import run
from tests.conftest import TINY, resolve


def test_the_columns_do_not_change() -> None:
    assert COLUMNS["metrics"] == (
        *("epoch", "latent_dim", "train_loss", "recon_loss", "kl", "silhouette", "fid_recon", "fid_gen"),
        *("active_units", "dims_active", "dims_mixed", "dims_passive", "cluster_accuracy", "nmi", "ari"),
        *("fid_features", "fid_samples"),
    )


def test_a_run_measures_every_metric_of_the_table(tmp_path: Path) -> None:
    config = resolve("adaptive", "digits", **{**TINY, "epochs": 1})
    result = read_result(run(config, Execution(results_dir=tmp_path)).path)
    assert result is not None
    assert all(isinstance(result.last[name], int | float) for name in METRICS)


def test_comparisons_show_the_headline_metrics() -> None:
    assert HEADLINE == ("recon_loss", "kl", "silhouette", "fid_recon", "fid_gen", "active_units")
    assert set(HEADLINE) < set(FIELDS)


def test_a_yardstick_is_found_by_loss_and_frechet_distances() -> None:
    assert FRECHET == ("fid_recon", "fid_gen")
    assert CRITERIA == ("loss", "fid_recon", "fid_gen")


def test_the_papers_figures_have_its_four_rows() -> None:
    assert [metric.name for metric in ROWS] == ["fid_recon", "fid_gen", "silhouette", "recon_loss"]
    assert [metric.better for metric in ROWS] == ["lower", "lower", "higher", "lower"]


@pytest.mark.parametrize(
    ("name", "features", "label"),
    [
        ("recon_loss", "pca", "Reconstruction loss\n(nats per sample)"),
        ("silhouette", "pca", "Silhouette score"),
        ("fid_recon", "inception", "FID of reconstr."),
        ("fid_gen", "pca", "Fréchet d. of generations\n(pca features)"),
        ("fid_gen", "none", "Fréchet distance"),
    ],
)
def test_axes_name_unit_and_features(name: str, features: str, label: str) -> None:
    assert metric_label(METRICS[name], features) == label
