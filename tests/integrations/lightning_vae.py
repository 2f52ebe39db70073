"""A small VAE in Lightning, its data, and its trainers: shared by the tests and by the processes that they start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader

from aldvae.integrations.lightning import LatentSize

EPOCHS = 20


class LitVAE(LightningModule):
    """A VAE written without aldvae in mind."""

    def __init__(self, latent_dim: int = 16, warmup: int = 4) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.latent_dim = latent_dim
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
        self.fc_mu, self.fc_var = nn.Linear(64, latent_dim), nn.Linear(64, latent_dim)
        self.decoder = nn.Sequential(nn.Linear(latent_dim, 64), nn.ReLU(), nn.Linear(64, 64))
        self.warmup = warmup

    @property
    def kl_weight(self) -> float:
        return min(1.0, (int(self.current_epoch) + 1) / self.warmup)

    def losses(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return reconstruction loss and KL divergence (nats per image) of images x (B, 64)."""
        h = self.encoder(x)
        mu, log_var = self.fc_mu(h), self.fc_var(h)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * log_var)
        recon = F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum") / len(x)
        return recon, 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum() / len(x)

    def training_step(self, x: Tensor, _: int) -> Tensor:
        recon, kl = self.losses(x)
        return recon + self.kl_weight * kl

    def validation_step(self, x: Tensor, _: int) -> None:
        recon, kl = self.losses(x)
        self.log("val_recon_loss", recon, batch_size=len(x), sync_dist=True)
        self.log("val_loss", recon + kl, batch_size=len(x), sync_dist=True)

    def sample(self, n: int) -> Tensor:
        z = torch.randn(n, self.latent_dim)
        return torch.sigmoid(self.decoder(z))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def loaders() -> tuple[DataLoader[Tensor], DataLoader[Tensor]]:
    """Return 600 images of digits in batches of 50, always in the same order, and 300 to validate on."""
    images = torch.from_numpy(load_digits().data).float().div(16)
    return (
        DataLoader(images[:600], batch_size=50),  # type: ignore[arg-type]
        DataLoader(images[600:900], batch_size=100),  # type: ignore[arg-type]
    )


def latent_size(**settings: Any) -> LatentSize:
    """Return the callback for `LitVAE`."""
    names: dict[str, Any] = {"heads": ["fc_mu", "fc_var"], "readers": ["decoder.0"], "sizes": ["latent_dim"]}
    return LatentSize(**{**names, "beta": "kl_weight", **settings})


def trainer(folder: Path, *callbacks: Any, epochs: int = EPOCHS, **settings: Any) -> Trainer:
    """Return a trainer on the CPU that prints nothing."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    defaults = {"accelerator": "cpu", "devices": 1, "num_sanity_val_steps": 0, "enable_checkpointing": False}
    return Trainer(
        default_root_dir=folder, max_epochs=epochs, callbacks=list(callbacks), **{**quiet, **defaults, **settings}
    )
