"""How many CPU threads the work in a training step is worth."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aldvae.config.run_config import RunConfig
from aldvae.models.vae import VAE

# Multiply-adds of a forward pass for each thread (benchmarks/README.md). With less, a thread waits more than it works.
WORK_PER_THREAD = 60_000_000

_Convolution = nn.modules.conv._ConvNd
_Transposed = nn.modules.conv._ConvTransposeNd


def default_threads(config: RunConfig, model: VAE, shape: tuple[int, ...], n_runs: int = 1) -> int | None:
    """Return the CPU threads for `n_runs` runs on samples of `shape` trained at once, at most torch's present number.

    None, which leaves that number, on a GPU, and where Inception's features are more work than any training.
    """
    if next(model.parameters()).device.type != "cpu" or config.metrics.fid_features == "inception":
        return None
    work = config.training.batch_size * n_runs * multiply_adds(model, shape)
    return max(1, min(torch.get_num_threads(), work // WORK_PER_THREAD))


@torch.no_grad()
def multiply_adds(model: VAE, shape: tuple[int, ...]) -> int:
    """Return the multiply-adds of linear layers and convolutions in a forward pass of one sample of `shape`."""
    total = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Linear | _Convolution)
        if isinstance(layer, nn.Linear):
            positions = output.numel() // layer.out_features
        elif isinstance(layer, _Transposed):
            positions = inputs[0].numel() // layer.in_channels
        else:
            positions = output.numel() // layer.out_channels
        total += positions * layer.weight.numel()

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear | _Convolution)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    was_training = model.training
    model.eval()
    model(torch.zeros(1, *shape), torch.zeros(1, model.latent_dim))
    model.train(was_training)
    for hook in hooks:
        hook.remove()
    return total
