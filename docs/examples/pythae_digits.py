"""pythae finds the latent size of a beta-VAE on the digits of scikit-learn, reloads it, and samples from it.

Run it with `python docs/examples/pythae_digits.py`, after `pip install 'aldvae[pythae]'`. It takes seconds.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from pythae.models import AutoModel, BetaVAE, BetaVAEConfig
from pythae.pipelines import TrainingPipeline
from pythae.samplers import NormalSampler
from pythae.trainers import BaseTrainerConfig
from sklearn.datasets import load_digits
from torch import Tensor

from aldvae.integrations.pythae import LatentSize


def main(epochs: int = 60, latent_dim: int = 32) -> tuple[LatentSize, Tensor]:
    """Train for `epochs` from a size of `latent_dim`; return the callback and 5 images (5, 1, 8, 8)."""
    torch.manual_seed(0)
    images = torch.from_numpy(load_digits().images).float().div(16).unsqueeze(1)
    model = BetaVAE(BetaVAEConfig(input_dim=(1, 8, 8), latent_dim=latent_dim, reconstruction_loss="bce", beta=1.0))
    size = LatentSize()
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=epochs,
            learning_rate=2e-3,
            per_device_train_batch_size=64,
            per_device_eval_batch_size=64,
        )
        TrainingPipeline(model=model, training_config=config)(images[300:], images[:300], callbacks=[size])
        final = next(Path(folder).rglob("final_model"))
        reloaded = AutoModel.load_from_folder(str(final))
    sampled = NormalSampler(reloaded).sample(num_samples=5)
    print(f"latent size {size.latent_dim}; the reloaded model has {reloaded.latent_dim}")
    return size, sampled


if __name__ == "__main__":
    main()
