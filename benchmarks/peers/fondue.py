"""FONDUE (Bonheme and Grzes 2022, arXiv 2209.12806): the largest size without passive dimensions.

A passive dimension adds noise to the sampled representation z and nothing to the mean representation mu. So the
intrinsic dimension of z exceeds that of mu as soon as there are passive dimensions. The search starts at the intrinsic
dimension of the data, doubles the size while the difference is at most a threshold, and then bisects. For each size, a
new model is trained for a few steps. As in the paper, the estimates are those of MLE with 20 neighbours, and the
threshold is a fifth of the estimate for the data. Short training has no KL warm-up: its weight must be full when the
representations are compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import ceil

import torch

from aldvae.compression.rules.base import SMALLEST_DIM
from aldvae.training.trainer import Trainer
from aldvae.utils.seeding import generator
from peers.estimators import mle_dimension
from peers.problems import Answer, Cost, Problem

THRESHOLD = 0.2
# The paper trains for one or two epochs of large datasets. Small ones need more epochs for as many steps.
STEPS, FEWEST_EPOCHS = 1000, 2
# A dataset without passive dimensions at any size would double the size for ever.
LARGEST = 512


def search(difference: Callable[[int], float], start: int, threshold: float, largest: int) -> int:
    """Return the largest size up to `largest` whose `difference` is at most the `threshold`, by Algorithm 1.

    It is exact if the difference grows with the size. `start` is the first size tried. The result may be 0.
    """
    difference = cache(difference)
    lower, upper, size = 0, largest, min(start, largest)
    while size != lower:
        if difference(size) <= threshold:
            lower, size = size, min(2 * size, upper)
        else:
            upper, size = size, (lower + size) // 2
    return size


@dataclass
class ShortTraining:
    """Trains models of `problem` for a few steps; `images` counts the training samples seen."""

    problem: Problem
    seed: int
    images: int = 0

    @property
    def epochs(self) -> int:
        """The epochs of a short training: enough for `STEPS` steps, but not more than a whole training has."""
        training = self.problem.config.training
        steps = ceil(len(self.problem.data.train) / training.batch_size)
        return min(training.epochs, max(FEWEST_EPOCHS, ceil(STEPS / steps)))

    def difference(self, size: int) -> float:
        """Return the intrinsic dimension of z minus that of mu for a new model of this size; 0 below size 2."""
        if size < SMALLEST_DIM:
            return 0.0
        config = self.problem.configured(size, self.seed).override(warmup=0.0)
        trainer = Trainer(config, self.problem.data, torch.device("cpu"))
        for epoch in range(1, self.epochs + 1):
            trainer.train_epoch(epoch)
        self.images += self.epochs * len(trainer.samples)
        with torch.inference_mode():
            trainer.model.eval()
            parts = [trainer.model.encode(x) for x in self.problem.samples(self.seed).split(500)]
        mu, log_var = (torch.cat(part) for part in zip(*parts, strict=True))
        noise = torch.randn(mu.shape, generator=generator(self.seed, "fondue"))
        z = mu + noise * torch.exp(0.5 * log_var)
        return mle_dimension(z.numpy()) - mle_dimension(mu.numpy())


def fondue(problem: Problem, seed: int) -> Answer:
    """Return the answer of FONDUE; it is not found if the largest size that it may try has no passive dimension."""
    training = ShortTraining(problem, seed)
    x = problem.samples(seed).flatten(1)
    largest = min(LARGEST, x.shape[1])
    start = time.perf_counter()
    dimension = mle_dimension(x.numpy())
    size = search(training.difference, max(1, round(dimension)), THRESHOLD * dimension, largest)
    cost = Cost(training.images, time.perf_counter() - start)
    return Answer(max(SMALLEST_DIM, size), cost, found=size < largest)
