"""Training on a CPU: ours, the plain PyTorch loop, and the bare matrix products, one after another in one process.

`ALDVAE_DATA_DIR=... python benchmarks/training.py --threads 1` prints the seconds of an epoch of each on MNIST at size
100, and the ratios. The plain loop is a DataLoader over a TensorDataset, batches of 64, shuffled, default Adam with
AMSGrad, eager.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch
import torch.nn.functional as F
from timing import medians, report
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from aldvae.config import resolve
from aldvae.cpu import cpu_settings
from aldvae.data.dataset import inputs
from aldvae.execution import Execution
from aldvae.trainer import Trainer
from aldvae.training import Shelf, load_data

BATCH, HIDDEN, SIZE = 64, 400, 100


class PlainVAE(nn.Module):
    """The VAE of the MNIST protocol as one would write it by hand."""

    def __init__(self) -> None:
        """Two hidden layers on either side."""
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU())
        self.mu, self.log_var = nn.Linear(HIDDEN, SIZE), nn.Linear(HIDDEN, SIZE)
        self.decoder = nn.Sequential(
            nn.Linear(SIZE, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 784)
        )

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        """Return the negative ELBO of a batch (B, 784), per image."""
        features = self.encoder(x)
        mu, log_var = self.mu(features), self.log_var(features)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * log_var)
        reconstruction = F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum")
        return (reconstruction - 0.5 * torch.sum(1 + log_var - mu.pow(2) - log_var.exp())) / len(x)


def plain_epoch(images: torch.Tensor) -> None:
    """Train for an epoch as most people do."""
    model = PlainVAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, amsgrad=True)
    for (x,) in DataLoader(TensorDataset(images), batch_size=BATCH, shuffle=True):
        optimizer.zero_grad()
        model.loss(x).backward()
        optimizer.step()


def products(images: torch.Tensor) -> None:
    """Do the matrix products of an epoch alone: forward, gradients of weights, gradients of inputs but the first."""
    layers = [(784, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 2 * SIZE), (SIZE, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 784)]
    tensors = [(torch.randn(BATCH, i), torch.randn(o, i), torch.randn(BATCH, o)) for i, o in layers]
    outputs = [(torch.empty(BATCH, o), torch.empty(o, i), torch.empty(BATCH, i)) for i, o in layers]
    for _ in range(len(images) // BATCH):
        for number, ((x, w, g), (forward, weight, back)) in enumerate(zip(tensors, outputs, strict=True)):
            torch.mm(x, w.T, out=forward)
            torch.mm(g.T, x, out=weight)
            if number:
                torch.mm(g, w, out=back)


def main() -> None:
    """Measure an epoch of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--limit", type=int, default=20_000)
    arguments = parser.parse_args()
    config = resolve("adaptive", "mnist", limit=arguments.limit, fid_features="none", init_dim=SIZE)
    with cpu_settings(arguments.threads):
        data = load_data(config, Execution(), Shelf())
        images = inputs(data.train.x).flatten(1)
        trainer, half = (
            Trainer(replace(config, precision=precision), data, torch.device("cpu"))
            for precision in ("float32", "bfloat16")
        )
        epochs = iter(range(1, 1000))
        ways = {
            "plain loop": lambda: plain_epoch(images),
            "aldvae": lambda: trainer.train_epoch(next(epochs)),
            "aldvae, bfloat16": lambda: half.train_epoch(next(epochs)),
            "matrix products alone": lambda: products(images),
        }
        seconds = medians(ways, arguments.repetitions)
    print(f"an epoch of {len(images)} images, {arguments.threads} threads, {arguments.repetitions} repetitions")
    report(seconds, "plain loop")
    print(f"aldvae reaches {seconds['matrix products alone'] / seconds['aldvae']:.0%} of the products' rate")


if __name__ == "__main__":
    main()
