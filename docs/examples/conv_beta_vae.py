"""Adaptive compression in a training loop of your own: a convolutional beta-VAE on the digits of scikit-learn.

Run it with `python docs/examples/conv_beta_vae.py`. The three statements that aldvae adds are marked 1 to 3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import silhouette_score
from torch import Tensor, nn

import aldvae


class ConvBetaVAE(nn.Module):
    """An ordinary VAE, written without aldvae in mind."""

    def __init__(self, latent_dim: int) -> None:
        """Make a model with `latent_dim` latent neurons."""
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()
        )
        self.mu = nn.Linear(128, latent_dim)
        self.log_var = nn.Linear(128, latent_dim)
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, 128),
            nn.ReLU(),
            nn.Unflatten(1, (32, 2, 2)),
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return logits (B, 1, 8, 8) and means, log-variances and samples (B, n_z), for images x (B, 1, 8, 8)."""
        features = self.encoder(x).flatten(1)
        mu, log_var = self.mu(features), self.log_var(features)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * log_var)
        return self.decoder(z), mu, log_var, z


def losses(vae: ConvBetaVAE, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return reconstruction loss and KL divergence (nats per image), and the latent samples."""
    logits, mu, log_var, z = vae(x)
    recon = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
    kl = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum() / len(x)
    return recon, kl, z


@torch.no_grad()
def validate(vae: ConvBetaVAE, x: Tensor) -> tuple[float, float]:
    """Return reconstruction loss (nats per image) and Silhouette score on validation images."""
    recon, _, z = losses(vae, x)
    labels = KMeans(10, n_init=1, random_state=0).fit_predict(z.numpy())
    return float(recon), float(silhouette_score(z.numpy(), labels))


def main(epochs: int = 100, beta: float = 2.0) -> aldvae.Compressor:
    """Train for `epochs` and print each change of the latent size."""
    torch.manual_seed(0)
    images = torch.from_numpy(load_digits().images).float().div(16).unsqueeze(1)
    train, validation = images[300:], images[:300]
    vae = ConvBetaVAE(latent_dim=32)
    optimizer = torch.optim.Adam(vae.parameters(), lr=2e-3)
    rule = aldvae.PaperRule(thresholds={"recon_loss": 0.0, "silhouette": 0.0})  # 1: decide on two metrics
    compressor = aldvae.Compressor(  # 2: the layers that write and read the latent vector
        heads=[vae.mu, vae.log_var], readers=[vae.decoder[0]], optimizer=optimizer, rule=rule
    )
    for epoch in range(1, epochs + 1):
        for batch in train[torch.randperm(len(train))].split(64):
            recon, kl, _ = losses(vae, batch)
            optimizer.zero_grad()
            (recon + beta * kl).backward()
            optimizer.step()
        recon_loss, silhouette = validate(vae, validation)
        step = compressor.step(recon_loss=recon_loss, silhouette=silhouette)  # 3: may shrink the layers in place
        if step.decision is not None:
            print(f"epoch {epoch}: size {step.latent_dim}; {step.decision.reason}")
    return compressor


if __name__ == "__main__":
    main()
