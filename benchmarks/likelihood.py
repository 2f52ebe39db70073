"""Gaussian or Bernoulli: how well models of 16 dimensions reconstruct and generate four kinds of images.

Run `ALDVAE_DATA_DIR=... python benchmarks/likelihood.py`; five minutes on one core. Settings are those of the
recommended protocol. It prints the rows of the table in docs/data.md: means over two seeds, on validation images.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
import torch.nn.functional as F

import aldvae
from aldvae.config.execution import Execution
from aldvae.config.options import Value
from aldvae.config.resolve import Overrides, own_data, resolve
from aldvae.data.dataset import to_float
from aldvae.data.load import load_dataset
from aldvae.training.inputs import InputCache, load_data
from aldvae.training.loop import run

SEEDS = (0, 1)
CASES: Mapping[str, dict[str, Value]] = {
    "gray.npy": {"epochs": 30, "clusters": 10},
    "eurosat": {"limit": 2000, "validation": 0.25, "epochs": 15, "metrics_every": 5},
    "fashionmnist": {"limit": 3000, "validation": 0.2, "epochs": 20},
    "mnist": {"limit": 3000, "validation": 0.2, "epochs": 20},
}


def write_gray(path: Path, execution: Execution) -> None:
    """Write 5,000 images of EuroSAT as gray images of 16 x 16."""
    data = load_dataset(
        "eurosat",
        validation=0.1,
        limit=6000,
        data_dir=execution.data_directory,
        cache_dir=execution.cache_directory,
    )
    gray = F.avg_pool2d(to_float(data.train.x[:5000]).mean(1, keepdim=True), 4)
    np.save(path, gray[:, 0].numpy())


def measure(dataset: str, settings: Mapping[str, Value], folder: Path) -> tuple[float, float, float]:
    """Train a model; return the mean squared error of its reconstructions, `fid_recon` and `fid_gen`."""
    source = str(folder / dataset) if dataset.endswith(".npy") else dataset
    config = resolve("fixed", source, Overrides({"init_dim": 16, **settings}, "recommended"))
    execution, cache = Execution(results_dir=folder, own_data=own_data(source), threads=1), InputCache()
    outcome = run(config, execution, cache=cache)
    x, model = to_float(load_data(config, execution, cache).validation.x), aldvae.load(outcome.path)
    with torch.inference_mode():
        decoded = torch.cat([model.generate(model.encode(part)[0]) for part in x.split(100)]).clamp(0, 1)
    final = outcome.summary["final"]
    return float((decoded - x).square().mean()), float(final["fid_recon"] or 0), float(final["fid_gen"] or 0)


def main() -> None:
    """Measure and print the rows."""
    with tempfile.TemporaryDirectory() as root:
        folder, execution = Path(root), Execution()
        write_gray(folder / "gray.npy", execution)
        for dataset, settings in CASES.items():
            source = str(folder / dataset) if dataset.endswith(".npy") else dataset
            plain = resolve("fixed", source, Overrides({"init_dim": 16, **settings}, "recommended"))
            data = load_data(plain, Execution(own_data=own_data(source)), InputCache())
            for likelihood in ("gaussian", "bernoulli"):
                runs = [measure(dataset, {**settings, "likelihood": likelihood, "seed": s}, folder) for s in SEEDS]
                error, recon, generated = (fmean(values) for values in zip(*runs, strict=True))
                print(
                    f"{dataset}, contrast {data.train.contrast:.2f}, {likelihood}: squared error {error:.4f}, "
                    f"fid_recon {recon:.4g}, fid_gen {generated:.4g}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
