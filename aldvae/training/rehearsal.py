"""How long an epoch of a run takes on this machine, told by a few training steps on random samples."""

from __future__ import annotations

import time
from functools import lru_cache
from math import ceil

import torch

from aldvae.config.run_config import RunConfig
from aldvae.data.dataset import Dataset, Samples
from aldvae.data.sources import SOURCES
from aldvae.training.precision import time_step
from aldvae.training.trainer import Trainer

# The first step allocates memory; of the others the fastest counts, as other programs only add to the time.
_STEPS = 4


def rehearse_epoch(config: RunConfig, device: torch.device) -> float | None:
    """Return the seconds of an epoch of a run on a built-in dataset, without reading it; None for the user's own data.

    Counted are the training steps and, where they take longer than anything else, Inception's features of the
    reconstructed and the generated images.
    """
    if config.data.source is not None:
        return None
    source = SOURCES[config.data.dataset]
    count = min(config.data.limit or source.count, source.count)
    batch_size = min(config.training.batch_size, count)
    random = torch.Generator().manual_seed(0)
    x = torch.randint(256, (batch_size, *source.shape), dtype=torch.uint8, generator=random)
    trainer = Trainer(config, Dataset(source.name, Samples(x), Samples(x)), device)
    step = min([time_step(trainer) for _ in range(_STEPS)][1:])
    seconds = step * ceil(count * (1 - config.data.validation) / batch_size)
    if config.metrics.fid_features == "inception":
        seconds += 2 * config.metrics.fid_samples * _inception_seconds(device) / config.metrics.metrics_every
    return seconds


@lru_cache
@torch.inference_mode()
def _inception_seconds(device: torch.device) -> float:
    """Return the seconds that an image takes in a network of Inception's architecture, which needs no weights."""
    from torchvision.models import inception_v3

    network = inception_v3(weights=None, init_weights=False).to(device, memory_format=torch.channels_last).eval()
    images = torch.rand(2, 3, 299, 299, device=device).contiguous(memory_format=torch.channels_last)
    network(images)
    start = time.perf_counter()
    network(images).cpu()
    return (time.perf_counter() - start) / len(images)
