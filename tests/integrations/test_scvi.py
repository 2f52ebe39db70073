"""The callback for scvi-tools, tested against the real package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scvi", reason="scvi-tools is not installed: make test-integrations")

import anndata
import scvi

import aldvae
from aldvae.integrations.scvi import LatentSize

pytestmark = pytest.mark.filterwarnings("ignore")

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


def counts(cells: int = 600) -> anndata.AnnData:
    """Return counts of 50 genes that 3 factors, a batch, a donor and a covariate determine, but for Poisson noise."""
    random = np.random.default_rng(0)
    batch, donor = random.integers(0, 2, cells), random.integers(0, 3, cells)
    age, z = random.normal(size=(cells, 1)), random.normal(size=(cells, 3))
    rates = z @ random.normal(size=(3, 50)) / 2 + age @ random.normal(size=(1, 50)) / 4
    rates += random.normal(size=(2, 50))[batch] / 2 + random.normal(size=(3, 50))[donor] / 4 + 1
    adata = anndata.AnnData(random.poisson(np.exp(rates)).astype(np.float32))
    adata.obs["batch"], adata.obs["donor"], adata.obs["age"] = batch.astype(str), donor.astype(str), age[:, 0]
    return adata


def model_of(adata: anndata.AnnData, covariates: dict[str, Any] | None = None, **settings: Any) -> Any:
    scvi.settings.seed = 0
    scvi.model.SCVI.setup_anndata(adata, **(covariates or {}))
    return scvi.model.SCVI(adata, **{"n_latent": 16, "n_hidden": 64, **settings})


def train(model: Any, size: LatentSize, epochs: int = 40, **settings: Any) -> None:
    plan = {"lr": 3e-3, **settings.pop("plan_kwargs", {})}
    model.train(max_epochs=epochs, batch_size=64, callbacks=[size], plan_kwargs=plan, **QUIET, **settings)


COVARIATES: dict[str, dict[str, Any]] = {
    "nothing else": {},
    "batches": {"batch_key": "batch"},
    "all": {"batch_key": "batch", "categorical_covariate_keys": ["donor"], "continuous_covariate_keys": ["age"]},
}


@pytest.mark.parametrize("encode", [False, True])
@pytest.mark.parametrize("name", COVARIATES)
def test_the_smaller_model_is_saved_and_loaded(name: str, encode: bool, tmp_path: Path) -> None:
    adata, size = counts(), LatentSize()
    model = model_of(adata, COVARIATES[name], encode_covariates=encode)
    train(model, size)
    assert size.compressor is not None
    assert size.compressor.found
    n = size.latent_dim
    assert 2 <= n < 16
    model.save(tmp_path / "model")
    loaded = scvi.model.SCVI.load(tmp_path / "model", adata=adata, accelerator="cpu")
    for scvi_model in (model, loaded):
        assert scvi_model.module.n_latent == scvi_model.module.z_encoder.mean_encoder.out_features == n
    z = loaded.get_latent_representation()
    assert z.shape == (600, n)
    np.testing.assert_array_equal(z, model.get_latent_representation())
    assert loaded.posterior_predictive_sample(indices=[0, 1]).shape == (2, 50)
    assert loaded.get_normalized_expression(indices=[0, 1]).shape == (2, 50)
    assert np.isfinite(loaded.get_elbo())


def test_the_warm_up_is_shortened_and_validation_turned_on() -> None:
    model, size = model_of(counts()), LatentSize()
    train(model, size)
    assert model.trainer.lightning_module.n_epochs_kl_warmup == 10
    assert len(model.history["elbo_validation"]) == 40
    assert model.history["latent_dim"].iloc[-1].item() == size.latent_dim


def test_a_warm_up_that_fits_and_the_rhythm_of_validation_are_kept() -> None:
    model, size = model_of(counts()), LatentSize()
    train(model, size, plan_kwargs={"n_epochs_kl_warmup": 5}, check_val_every_n_epoch=2)
    assert model.trainer.lightning_module.n_epochs_kl_warmup == 5
    assert size.compressor is not None
    assert size.compressor.epoch == 20


def test_the_robust_rule_and_early_stopping() -> None:
    model, size = model_of(counts()), LatentSize(rule=aldvae.RobustRule(), epochs=30)
    train(model, size, early_stopping=True, early_stopping_patience=1)
    assert size.latent_dim == model.module.n_latent
    assert size.compressor is not None
    assert size.compressor.epoch >= 30


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(aldvae.ArgumentError, match=r"latent_distribution must be 'normal' .*, not 'ln'"):
        train(model_of(counts(), latent_distribution="ln"), LatentSize())
    with pytest.raises(aldvae.ArgumentError, match="train_size must be below 1"):
        train(model_of(counts()), LatentSize(), train_size=1.0)
