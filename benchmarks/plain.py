"""Baselines for training: the plain PyTorch loop, and the bare products and convolutions of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

BATCH, SIZE = 64, 100


class PlainVAE(nn.Module):
    """A VAE as most people write it; `width` is the output size of `encoder` and the input size of `decoder`."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, width: int) -> None:
        """Add a latent space of `SIZE` dimensions between encoder and decoder."""
        super().__init__()
        self.encoder, self.decoder = encoder, nn.Sequential(nn.Linear(SIZE, width), nn.ReLU(), decoder)
        self.mu, self.log_var = nn.Linear(width, SIZE), nn.Linear(width, SIZE)

    def loss(self, x: Tensor) -> Tensor:
        """Return the negative ELBO of a batch (B, *shape), per image."""
        features = self.encoder(x)
        mu, log_var = self.mu(features), self.log_var(features)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * log_var)
        reconstruction = F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum")
        return (reconstruction - 0.5 * torch.sum(1 + log_var - mu.pow(2) - log_var.exp())) / len(x)


def mlp() -> PlainVAE:
    """Return the VAE of the MNIST preset."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU())
    decoder = nn.Sequential(nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 784), nn.Unflatten(1, (1, 28, 28)))
    return PlainVAE(encoder, decoder, 400)


def conv() -> PlainVAE:
    """Return the VAE of the EuroSAT preset."""
    down = [layer for i in (3, 32, 32, 32) for layer in (nn.Conv2d(i, 32, 4, stride=2, padding=1), nn.SiLU())]
    up = [layer for o in (32, 32, 32, 3) for layer in (nn.ReLU(), nn.ConvTranspose2d(32, o, 4, stride=2, padding=1))]
    dense = nn.Flatten(), nn.Linear(512, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU()
    project = nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 512), nn.Unflatten(1, (32, 4, 4))
    return PlainVAE(nn.Sequential(*down, *dense), nn.Sequential(*project, *up), 256)


def plain_epoch(make: Callable[[], PlainVAE], images: Tensor) -> None:
    """Train for an epoch as most code does: a shuffling DataLoader, default Adam with AMSGrad, eager mode."""
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, amsgrad=True)
    for (x,) in DataLoader(TensorDataset(images), batch_size=BATCH, shuffle=True):
        optimizer.zero_grad()
        model.loss(x).backward()
        optimizer.step()


Work = Callable[[], object]


def product(inputs: int, outputs: int, first: bool = False) -> Work:
    """Return the products of a step of a linear layer: forward, gradient of the weights and, unless `first`, of x."""
    x, w, g = torch.randn(BATCH, inputs), torch.randn(outputs, inputs), torch.randn(BATCH, outputs)
    forward, weight, back = torch.empty_like(g), torch.empty_like(w), torch.empty_like(x)

    def work() -> None:
        torch.mm(x, w.T, out=forward)
        torch.mm(g.T, x, out=weight)
        if not first:
            torch.mm(g, w, out=back)

    return work


def convolution(inputs: int, outputs: int, side: int, transposed: bool = False, first: bool = False) -> Work:
    """Return the work of a step of a convolution with stride 2 on maps of `side` pixels, in channels-last memory."""
    order = torch.channels_last
    x = torch.randn(BATCH, inputs, side, side).to(memory_format=order)
    w = torch.randn(*((inputs, outputs) if transposed else (outputs, inputs)), 4, 4).to(memory_format=order)
    options = (2, 2), (1, 1), (1, 1), transposed, (0, 0), 1
    g = torch.randn_like(torch.convolution(x, w, None, *options))

    def work() -> None:
        torch.convolution(x, w, None, *options)
        torch.ops.aten.convolution_backward(g, x, w, None, *options, (not first, True, False))

    return work


def mlp_work() -> list[Work]:
    """Return the products of a step of `mlp`."""
    layers = [(400, 400), (400, 2 * SIZE), (SIZE, 400), (400, 400), (400, 784)]
    return [product(784, 400, first=True), *(product(i, o) for i, o in layers)]


def conv_work() -> list[Work]:
    """Return the convolutions and products of a step of `conv`."""
    down = [convolution(3, 32, 64, first=True), *(convolution(32, 32, side) for side in (32, 16, 8))]
    layers = [(512, 256), (256, 256), (256, 2 * SIZE), (SIZE, 256), (256, 256), (256, 512)]
    up = [convolution(32, o, side, transposed=True) for o, side in ((32, 4), (32, 8), (32, 16), (3, 32))]
    return [*down, *(product(i, o) for i, o in layers), *up]


def bare_epoch(step: Sequence[Work], images: int) -> None:
    """Do the work of all steps of an epoch, without the rest of training."""
    with torch.no_grad():
        for _ in range(images // BATCH):
            for work in step:
                work()
