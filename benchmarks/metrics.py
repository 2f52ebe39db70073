"""Claim: all metrics of an epoch of MNIST, classifier features and 500 images, take under a second on one thread.

Run `ALDVAE_DATA_DIR=... python benchmarks/metrics.py`. The ratio is to a training epoch in the same process.
The hardware's limit is the passes of the networks alone: the VAE on all validation images, and the classifier twice.
"""

from __future__ import annotations

import torch
from mnist import mnist
from timing import medians, report, roofline

from aldvae.data.dataset import to_float
from aldvae.utils.devices import cpu_settings

FLOOR = "networks' passes alone"


def main() -> None:
    """Train one epoch, then time metrics and another epoch alternately."""
    with cpu_settings(1):
        config, data, features, trainer, evaluator = mnist()
        trainer.train_epoch(1)
        images, noise = to_float(data.validation.x), torch.randn(len(data.validation), trainer.model.latent_dim)
        first = images[: config.metrics.fid_samples]

        @torch.inference_mode()
        def passes() -> None:
            trainer.model(images, noise)
            features(first)
            features(first)

        ways = {
            "training epoch": lambda: trainer.train_epoch(2),
            "all metrics": lambda: evaluator.evaluate(trainer.model, 1),
            FLOOR: passes,
        }
        seconds = medians(ways, repetitions=3)
    report(seconds, against="training epoch")
    roofline(seconds, "all metrics", FLOOR)


if __name__ == "__main__":
    main()
