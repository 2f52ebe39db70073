"""Lightning finds the latent size of a VAE on the digits of scikit-learn (`pip install 'aldvae[lightning]'`)."""

from __future__ import annotations

import tempfile

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from aldvae.integrations.lightning import LatentSize


class VAE(LightningModule):
    """An ordinary VAE, written without aldvae in mind."""

    def __init__(self, latent_dim: int = 32) -> None:
        """Make a model with `latent_dim` latent neurons."""
        super().__init__()
        self.save_hyperparameters()
        self.encoder = nn.Sequential(nn.Linear(64, 128), nn.ReLU())
        self.fc_mu, self.fc_var = nn.Linear(128, latent_dim), nn.Linear(128, latent_dim)
        self.decoder = nn.Sequential(nn.Linear(latent_dim, 128), nn.ReLU(), nn.Linear(128, 64))

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Return the negative ELBO of a batch of images (B, 64), in nats per image."""
        (x,) = batch
        mu, log_var = (head(self.encoder(x)) for head in (self.fc_mu, self.fc_var))
        logits = self.decoder(mu + torch.randn_like(mu) * torch.exp(0.5 * log_var))
        recon = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        loss: Tensor = (recon + 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum()) / len(x)
        return loss

    validation_step = training_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Train all layers."""
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(epochs: int = 60) -> LatentSize:
    """Train for `epochs`, load the checkpoint, and sample 5 images from it."""
    seed_everything(0)
    images = TensorDataset(torch.from_numpy(load_digits().data).float().div(16))
    validation, train = random_split(images, [300, 1497])
    loaders = DataLoader(train, 64, shuffle=True), DataLoader(validation, 300)
    size = LatentSize(heads=["fc_mu", "fc_var"], readers=["decoder.0"], sizes=["latent_dim"])
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(max_epochs=epochs, accelerator="cpu", callbacks=[size], default_root_dir=folder, logger=False)
        trainer.fit(VAE(), *loaders)
        loaded = VAE.load_from_checkpoint(trainer.checkpoint_callback.best_model_path)
    samples = torch.sigmoid(loaded.decoder(torch.randn(5, loaded.hparams["latent_dim"])))
    print(f"latent size {size.latent_dim}; the loaded model has {loaded.fc_mu.out_features}; {len(samples)} samples")
    return size


if __name__ == "__main__":
    main()
