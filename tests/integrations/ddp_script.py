"""Trains on two CPU processes; each writes its weights and its compressor's state to the folder `sys.argv[1]`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from tests.integrations.lightning_vae import LitVAE, latent_size, loaders, trainer

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    torch.manual_seed(0)
    vae, callback = LitVAE(), latent_size()
    run = trainer(folder, callback, strategy="ddp", devices=2)
    run.fit(vae, *loaders())
    assert callback.compressor is not None
    state = {"compressor": callback.compressor.state_dict(), "weights": vae.state_dict()}
    torch.save(state, folder / f"rank{run.global_rank}.pt")
