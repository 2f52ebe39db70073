"""Claims: Inception features at 2.5 times pytorch-fid's rate on a CPU; two FIDs in a fifth of its functions' time.

Run `python benchmarks/inception.py [THREADS]`. The weights are seeded random numbers, because the rate does not depend
on them. Each way resizes the 28 x 28 images to 299 x 299 itself. The hardware's limit is the product of two 1024 x 1024
matrices, repeated until it has done as many multiply-adds as the network.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from pytorch_fid import fid_score, inception
from timing import medians, report, roofline
from torch import nn

from aldvae.metrics.features import Features
from aldvae.metrics.frechet import frechet_distance, statistics
from aldvae.metrics.inception import OpenVINOInception, PooledInception
from aldvae.utils.devices import cpu_settings

RATE_IMAGES = 40
FID_IMAGES = 100
# Multiply-adds of Inception for one image of 299 x 299.
MULTIPLY_ADDS = 5.7e9
FLOOR = "as many multiply-adds in products"


@contextmanager
def random_weights() -> Iterator[None]:
    """Let pytorch-fid build its network with seeded random weights instead of downloading any."""
    torch.manual_seed(0)
    with (
        patch.object(inception, "load_state_dict_from_url", lambda *_, **__: {}),
        patch.object(nn.Module, "load_state_dict", lambda *_: None),
    ):
        yield


def random_inception() -> nn.Module:
    """Return pytorch-fid's network with seeded random weights."""
    with random_weights():
        network: nn.Module = inception.InceptionV3([3]).eval()
    return network


def features(network: nn.Module) -> Features:
    """Return `network` wrapped as aldvae uses it."""
    return Features("inception", network, "random", 20, "")


@torch.inference_mode()
def rates(ways: dict[str, Features]) -> None:
    """Compare the images per second of `ways` with pytorch-fid's, and their features."""
    images = torch.rand(RATE_IMAGES, 1, 28, 28)
    eager = random_inception()

    def theirs() -> torch.Tensor:
        return torch.cat([eager(batch.expand(-1, 3, -1, -1))[0].flatten(1) for batch in images.split(20)])

    expected = theirs()
    square = torch.rand(1024, 1024)
    out = torch.empty_like(square)

    def products() -> None:
        for _ in range(round(RATE_IMAGES * MULTIPLY_ADDS / 1024**3)):
            torch.mm(square, square, out=out)

    calls = {"pytorch-fid": theirs, FLOOR: products} | {name: lambda way=way: way(images) for name, way in ways.items()}
    print(f"features of {RATE_IMAGES} images")
    seconds = medians(calls, repetitions=5)
    report(seconds, against="pytorch-fid")
    for name in ways:
        roofline(seconds, name, FLOOR)
    for name, way in ways.items():
        print(f"{name}: relative difference {float((way(images) - expected).norm() / expected.norm()):.1e}")


def two_fids(way: Features, root: Path) -> None:
    """Compare the times of two distances, each from 100 images to the same reference; pytorch-fid reads files."""
    random = np.random.default_rng(0)
    sets = [random.integers(0, 256, (FID_IMAGES, 28, 28), dtype=np.uint8) // (i + 1) for i in range(3)]
    folders = [root / name for name in ("reference", "reconstructions", "generations")]
    for folder, images in zip(folders, sets, strict=True):
        folder.mkdir()
        for number, image in enumerate(images):
            Image.fromarray(image).save(folder / f"{number}.png")
    network = random_inception()
    tensors = [torch.from_numpy(images).unsqueeze(1).float() / 255 for images in sets]
    files = [[str(path) for path in sorted(folder.iterdir())] for folder in folders]
    m, s = fid_score.calculate_activation_statistics(files[0], network, 20, 2048, num_workers=0)
    reference = statistics(way(tensors[0]))

    def by_folders() -> None:
        for folder in folders[1:]:
            with random_weights():
                fid_score.calculate_fid_given_paths([str(folders[0]), str(folder)], 20, "cpu", 2048, num_workers=0)

    def stored_reference() -> None:
        for paths in files[1:]:
            pair = fid_score.calculate_activation_statistics(paths, network, 20, 2048, num_workers=0)
            fid_score.calculate_frechet_distance(m, s, *pair)

    def ours() -> None:
        for x in tensors[1:]:
            frechet_distance(reference, statistics(way(x)))

    print(f"two FIDs of {FID_IMAGES} images")
    ways = {
        "calculate_fid_given_paths": by_folders,
        "with stored reference statistics": stored_reference,
        "aldvae": ours,
    }
    report(medians(ways, repetitions=1), against="calculate_fid_given_paths")


def main() -> None:
    """Run both comparisons with the number of threads on the command line (default 1)."""
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    with cpu_settings(threads), tempfile.TemporaryDirectory() as folder:
        ways = {
            "channels last": features(PooledInception(random_inception(), torch.float32)),
            "OpenVINO": features(OpenVINOInception(random_inception(), "float32")),
        }
        rates(ways)
        two_fids(ways["OpenVINO"], Path(folder))


if __name__ == "__main__":
    main()
