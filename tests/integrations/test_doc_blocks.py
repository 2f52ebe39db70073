"""The blocks of Python in docs/integrations.md run with the libraries that they are for, in small settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"


def block(library: str) -> str:
    """Return the one block of Python in the chapter on a library."""
    chapter = PAGE.read_text().partition(f"\n## {library}\n")[2].partition("\n## ")[0]
    (found,) = re.findall(r"```python\n(.*?)```", chapter, re.DOTALL)
    return str(found)


def run(library: str, names: dict[str, Any]) -> Any:
    """Execute the block of a library; return its callback."""
    exec(compile(block(library), PAGE.name, "exec"), names)
    return names["size"]


def test_every_block_of_the_page_is_run_here() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert sorted(blocks) == sorted(block(library) for library in ("Lightning", "pythae", "scvi-tools"))


@pytest.mark.filterwarnings("ignore")
def test_the_block_for_lightning_runs() -> None:
    pytest.importorskip("lightning", reason="Lightning is not installed: make test-integrations")
    from lightning.pytorch import Trainer

    from aldvae.integrations.lightning import LatentSize
    from tests.integrations.lightning_vae import LitVAE, loaders

    class VAE(LitVAE):
        """The same with the layer that the page names."""

        def __init__(self, latent_dim: int = 16) -> None:
            super().__init__(latent_dim)
            decoder = self.decoder
            del self.decoder
            # A module has the first of its names.
            self.decoder_input, self.decoder = decoder[0], decoder

    def small_trainer(**settings: Any) -> Trainer:
        quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
        return Trainer(**{**settings, **quiet, "max_epochs": 20})

    train, validation = loaders()
    names = {"LatentSize": LatentSize, "Trainer": small_trainer, "vae": VAE()}
    size = run("Lightning", names | {"train_loader": train, "validation_loader": validation})
    assert 2 <= size.latent_dim <= 16


@pytest.mark.filterwarnings("ignore")
def test_the_block_for_pythae_runs(tmp_path: Path) -> None:
    pytest.importorskip("pythae", reason="pythae is not installed: make test-integrations")
    import torch
    from pythae.models import VAE, VAEConfig
    from pythae.pipelines import TrainingPipeline
    from pythae.trainers import BaseTrainerConfig

    from aldvae.integrations.pythae import LatentSize

    config = BaseTrainerConfig(
        output_dir=str(tmp_path), num_epochs=20, per_device_train_batch_size=50, per_device_eval_batch_size=50
    )
    model = VAE(VAEConfig(input_dim=(64,), latent_dim=16))
    data = {"train": torch.rand(200, 64), "validation": torch.rand(50, 64)}
    size = run(
        "pythae",
        {"LatentSize": LatentSize, "TrainingPipeline": TrainingPipeline, "model": model, "config": config, **data},
    )
    assert 2 <= size.latent_dim <= 16


@pytest.mark.filterwarnings("ignore")
def test_the_block_for_scvi_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    scvi = pytest.importorskip("scvi", reason="scvi-tools is not installed: make test-integrations")
    import anndata
    import numpy as np

    from aldvae.integrations.scvi import LatentSize

    train = scvi.model.SCVI.train
    monkeypatch.setattr(scvi.model.SCVI, "train", lambda model, **more: train(model, max_epochs=20, **more))
    adata = anndata.AnnData(np.random.default_rng(0).poisson(3.0, (200, 30)).astype(np.float32))
    scvi.model.SCVI.setup_anndata(adata)
    size = run("scvi-tools", {"LatentSize": LatentSize, "scvi": scvi, "adata": adata})
    assert 0 < size.latent_dim <= 64
