"""Claim: all metrics of an epoch of MNIST, classifier features and 500 images, take under a second on one thread.

Run `ALDVAE_DATA_DIR=... python benchmarks/metrics.py`. The ratio is to a training epoch of the same process.
What the hardware could do is the networks' passes alone: the VAE over all validation images, and twice the classifier.
"""

from __future__ import annotations

import torch
from timing import medians, report, roofline

from aldvae.config import resolve
from aldvae.cpu import cpu_settings
from aldvae.data.dataset import inputs
from aldvae.devices import pick_device
from aldvae.execution import Execution
from aldvae.metrics.evaluation import Evaluator
from aldvae.trainer import Trainer
from aldvae.training import Shelf, load_data, load_features_of

FLOOR = "networks' passes alone"


def main() -> None:
    """Train one epoch, then time metrics and another epoch alternately."""
    config = resolve("adaptive", "mnist", fid_features="classifier")
    execution, device = Execution(), pick_device("cpu")
    with cpu_settings(1):
        data = load_data(config, execution, Shelf())
        features = load_features_of(config, execution, data, device, Shelf())
        trainer = Trainer(config, data, device)
        evaluator = Evaluator(config, data.validation, features, execution.cache_directory, device)
        trainer.train_epoch(1)
        assert features is not None
        images, noise = inputs(data.validation.x), torch.randn(len(data.validation), trainer.model.latent_dim)
        some = images[: config.fid_samples]

        @torch.inference_mode()
        def passes() -> None:
            trainer.model(images, noise)
            features(some)
            features(some)

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
