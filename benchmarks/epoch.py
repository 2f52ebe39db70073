"""Claim: an epoch of MNIST, training and all metrics, takes at most half the time of a plain loop's training alone.

Run `ALDVAE_DATA_DIR=... python benchmarks/epoch.py`: the paper's 54,000 images at size 100, classifier features of 500
images, one thread, float32. The hardware's limit is the bare matrix products of the training.
"""

from __future__ import annotations

import argparse

from mnist import mnist
from plain import bare_epoch, mlp, mlp_work, plain_epoch
from timing import medians, report, roofline

from aldvae.data.dataset import to_float
from aldvae.utils.devices import cpu_settings

FLOOR = "products alone"


def main() -> None:
    """Time both ways alternately."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    with cpu_settings(1):
        _, data, _, trainer, evaluator = mnist()
        images, step, epochs = to_float(data.train.x), mlp_work(), iter(range(1, 1000))

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
