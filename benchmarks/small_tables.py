"""Do more epochs help a model of a small table? Prints the table in docs/data.md. One seed, a minute of processor time.

python benchmarks/small_tables.py
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from sklearn.datasets import load_breast_cancer

from aldvae.config.execution import Execution
from aldvae.config.resolve import Overrides, own_data, resolve
from aldvae.training.loop import run

EPOCHS = (50, 100, 200, 400)


def curved_table(n_samples: int, n_columns: int, n_factors: int) -> np.ndarray:
    """Return a table (N, D) of curved functions of a few independent factors, with noise."""
    random = np.random.default_rng(0)
    factors = random.normal(size=(n_samples, n_factors))
    signal = np.tanh(factors @ random.normal(size=(n_factors, n_columns)) / np.sqrt(n_factors))
    table: np.ndarray = signal + 0.1 * random.normal(size=signal.shape)
    return table


def main() -> None:
    """Train each table for each number of epochs; print answer, epoch at which it had settled, and loss."""
    tables = {"cancer": load_breast_cancer().data, "factors": curved_table(60, 12, 3)}
    with TemporaryDirectory() as folder:
        for name, table in tables.items():
            path = Path(folder) / f"{name}.npy"
            np.save(path, table)
            for epochs in EPOCHS:
                execution = Execution(own_data=own_data(str(path)), results_dir=Path(folder), cache_dir=Path(folder))
                config = resolve("adaptive", str(path), Overrides({"epochs": epochs}), execution)
                summary = run(config, execution).summary
                final = summary["final"]
                loss = float(final["recon_loss"] or 0) + float(final["kl"] or 0)
                found, settled = summary["n_informative"], summary["settled_epoch"]
                print(f"{name} {len(table)} x {table.shape[1]} | {epochs} | {found} | {settled} | {loss:.2f}")


if __name__ == "__main__":
    main()
