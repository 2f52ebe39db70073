"""Claims: training on data in a file reaches 90% of the speed in memory, and the process needs under 1.5 GB for 10 GB.

`python benchmarks/large_data.py speed` times epochs on the same samples in memory and in a file, alternately. `memory
--gigabytes 10` runs ``aldvae adaptive`` for one epoch on a file of random colour images, and samples the process's own
memory (RssAnon, without pages of files). `decode --files 200000` decodes a folder of images with one core and with all.
The files are made in `--folder`, by default the system's folder for temporary files.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from process_memory import process_memory
from timing import machine, medians, report

from aldvae.config.options import Value
from aldvae.config.resolve import Overrides, resolve
from aldvae.data import mapped, own
from aldvae.data.dataset import split
from aldvae.training.trainer import Trainer
from aldvae.utils.devices import cpu_settings
from aldvae.utils.threads import usable_cores

DECODE = """
import sys
from pathlib import Path
from aldvae.data.decode import decode_files
folder, path, cores = sys.argv[1:]
decode_files(sorted(Path(folder).iterdir()), Path(path), "dataset", None, int(cores))
"""
CASES = {"vectors of 100": (20_000, 100), "gray 28 x 28": (20_000, 28, 28), "colour 64 x 64": (1_500, 64, 64, 3)}


def random_array(path: Path, shape: tuple[int, ...]) -> None:
    """Write random vectors (float32) or images (uint8) as an array file, in parts."""
    random, vectors = np.random.default_rng(0), len(shape) == 2
    array = np.lib.format.open_memmap(path, "w+", np.float32 if vectors else np.uint8, shape)
    rows = max(1, 2**26 // int(np.prod(shape[1:])))
    for start in range(0, len(array), rows):
        part = array[start : start + rows]
        part[:] = random.normal(size=part.shape) if vectors else random.integers(0, 256, part.shape, np.uint8)
    array.flush()


def speed(folder: Path, repetitions: int) -> None:
    """Print the seconds of an epoch of each way for each of the `CASES`."""
    for name, shape in CASES.items():
        random_array(folder / "x.npy", shape)
        options: dict[str, Value] = {"clusters": 2, "fid_features": "none", "init_dim": 32}
        config = resolve("fixed", str(folder / "x.npy"), Overrides(options, "paper"))
        trainers = {}
        for way, limit in (("in memory", 2**60), ("in a file", 0)):
            mapped.MAPPED_BYTES = limit
            own.load.cache_clear()
            data = split("x", own.load(folder / "x.npy", None, folder), 0.1, None)
            trainers[way] = Trainer(config, data, torch.device("cpu"))
        with cpu_settings(1):
            ways = {way: partial(trainer.train_epoch, 1) for way, trainer in trainers.items()}
            medians(ways, 1)
            print(f"{name}, {len(data.train)} training samples, {repetitions} repetitions")
            report(medians(ways, repetitions), "in memory")


def memory(folder: Path, gigabytes: float) -> None:
    """Print the most memory that a run on a file of so many `gigabytes` takes."""
    path, n_images = folder / "x.npy", int(gigabytes * 1e9) // (128 * 128 * 3)
    random_array(path, (n_images, 128, 128, 3))
    options = ["--network", "mlp", "--hidden-dim", "16", "--clusters", "10", "--epochs", "1", "--init-dim", "16"]
    line = [sys.executable, "-m", "aldvae", "adaptive", "--dataset", str(path), *options]
    start, most = time.monotonic(), 0.0
    process = subprocess.Popen([*line, "--results-dir", str(folder), "--cache-dir", str(folder)])
    while process.poll() is None:
        most = max(most, process_memory(process.pid, "RssAnon"))
        time.sleep(0.02)
    print(f"{n_images} images, {path.stat().st_size / 1e9:.1f} GB: exit code {process.returncode}")
    print(f"at most {most:.0f} MB, {time.monotonic() - start:.0f} s from the command to its end; {machine()}")


def decode_folder(folder: Path, n_files: int) -> None:
    """Print the seconds that decoding `n_files` JPEG images of 64 x 64 takes."""
    photos, random = folder / "photos", np.random.default_rng(0)
    photos.mkdir()
    for number in range(n_files):
        pixels = np.kron(random.integers(0, 256, (8, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
        Image.fromarray(pixels).save(photos / f"{number:06}.jpg")
    for cores in (1, usable_cores()):
        line = [sys.executable, "-c", DECODE, str(photos), str(folder / f"{cores}.npy"), str(cores)]
        start = time.perf_counter()
        subprocess.run(line, check=True)
        print(f"{n_files} images with {cores} cores: {time.perf_counter() - start:.1f} s, with the start of Python")
    print(machine())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmark", choices=["speed", "memory", "decode"])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--gigabytes", type=float, default=10)
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, default=None)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=chosen.folder) as root:
        if chosen.benchmark == "speed":
            speed(Path(root), chosen.repetitions)
        elif chosen.benchmark == "memory":
            memory(Path(root), chosen.gigabytes)
        else:
            decode_folder(Path(root), chosen.files)


if __name__ == "__main__":
    main()
