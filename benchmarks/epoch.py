"""Claim: a whole epoch of MNIST, training and all metrics, takes at most half of the plain loop's training alone.

Run `ALDVAE_DATA_DIR=... python benchmarks/epoch.py`: the paper's 54,000 images at size 100, classifier features of 500
images, one thread, float32. What the hardware could do is the training's bare matrix products.
"""

from __future__ import annotations

import argparse

from plain import bare_epoch, mlp, mlp_work, plain_epoch
from timing import medians, report, roofline

from aldvae.config import resolve
from aldvae.cpu import cpu_settings
from aldvae.data.dataset import inputs
from aldvae.devices import pick_device
from aldvae.execution import Execution
from aldvae.metrics.evaluation import Evaluator
from aldvae.trainer import Trainer
from aldvae.training import Shelf, load_data, load_features_of

FLOOR = "products alone"


def main() -> None:
    """Time both ways alternately."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    config = resolve("adaptive", "mnist", fid_features="classifier", init_dim=100)
    execution, device = Execution(), pick_device("cpu")
    with cpu_settings(1):
        data = load_data(config, execution, Shelf())
        features = load_features_of(config, execution, data, device, Shelf())
        trainer = Trainer(config, data, device)
        evaluator = Evaluator(config, data.validation, features, execution.cache_directory, device)
        images, step, epochs = inputs(data.train.x), mlp_work(), iter(range(1, 1000))

        def ours() -> None:
            epoch = next(epochs)
            trainer.train_epoch(epoch)
            evaluator.evaluate(trainer.model, epoch)

        ways = {
            "plain loop, training alone": lambda: plain_epoch(mlp, images),
            "aldvae, training and metrics": ours,
            FLOOR: lambda: bare_epoch(step, len(images)),
        }
        seconds = medians(ways, arguments.repetitions)
    print(f"an epoch of {len(images)} images, {arguments.repetitions} repetitions")
    report(seconds, "plain loop, training alone")
    roofline(seconds, "aldvae, training and metrics", FLOOR)


if __name__ == "__main__":
    main()
