"""Make the data of the benchmark that no built-in dataset provides.

``python experiments/benchmark_data.py runs/benchmark-data`` writes them into that folder.

Every file is an ``.npz`` with an array `x`. The same command makes the same numbers. The number at the end of a name is
the number of factors behind the samples, where it is known:

- `linear3`, `linear8`, `linear15`: a random linear map from so many normal factors to 64 values, plus noise.
- `curved3`, `curved8`, `curved15`: the same with a random layer of 32 tanh units between.
- `factors2`, `factors3`, `factors5`: gray images of a blob whose position, width and brightness vary, and the strength
  of a gradient behind it, in this order.
- `wide`: 200 rows of 500 columns that depend on 6 factors, with more noise.
- `cancer`: the table of scikit-learn on breast cancer, 569 rows of 30 columns.
- `gray`: 5,000 images of EuroSAT in gray, 16 x 16 pixels. It needs EuroSAT under ``ALDVAE_DATA_DIR``.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer

from aldvae.config.execution import Execution
from aldvae.data.sources import SOURCES
from aldvae.utils.files import write_atomically

Array = np.ndarray
# Standard deviation of the noise: of manifolds, as a fraction of each column's, and of images, of a range of 0 to 1.
NOISE, PIXEL_NOISE = 0.1, 0.05
SIDE, HIDDEN = 16, 32


def linear(n_factors: int, n_samples: int = 4000, n_values: int = 64) -> Array:
    """Return samples (n_samples, n_values) on a hyperplane, plus noise."""
    random = np.random.default_rng([1, n_factors])
    z = random.normal(size=(n_samples, n_factors))
    return _with_noise(z @ random.normal(size=(n_factors, n_values)), NOISE, random)


def curved(n_factors: int, n_samples: int = 4000, n_values: int = 64) -> Array:
    """Return samples (n_samples, n_values) on a curved surface, plus noise."""
    random = np.random.default_rng([2, n_factors])
    z = random.normal(size=(n_samples, n_factors))
    # A standard deviation of 1.5 before tanh: many units bend, few saturate.
    hidden = np.tanh(1.5 * z @ random.normal(size=(n_factors, HIDDEN)) / np.sqrt(n_factors))
    return _with_noise(hidden @ random.normal(size=(HIDDEN, n_values)), NOISE, random)


def wide() -> Array:
    """Return 200 rows of 500 columns that depend on 6 factors between -1 and 1, plus noise."""
    random = np.random.default_rng(3)
    factors = np.tanh(random.normal(size=(200, 6)))
    return _with_noise(factors @ random.normal(size=(6, 500)), 0.5, random)


def _with_noise(signal: Array, fraction: float, random: np.random.Generator) -> Array:
    # The same fraction of each column: tables are standardised and have one scale. A column with more noise than the
    # others would be worth a dimension of its own, and the number of factors would not be the truth.
    noisy: Array = signal + fraction * signal.std(0) * random.normal(size=signal.shape)
    return noisy


def factors(n_factors: int, n_samples: int = 5000) -> Array:
    """Return images (n_samples, 16, 16) in [0, 1] of which `n_factors` of five factors vary; the others are fixed."""
    random = np.random.default_rng([4, n_factors])
    varied = random.uniform(size=(n_samples, 5))
    varied[:, n_factors:] = (0.5, 0.5, 0.4, 1.0, 0.0)[n_factors:]
    column, row, width, brightness, gradient = varied.T[:, :, None, None]
    y, x = np.mgrid[:SIDE, :SIDE]
    # The centre stays 3 pixels away from the border, so that no blob disappears.
    distance = (x - 3 - column * (SIDE - 7)) ** 2 + (y - 3 - row * (SIDE - 7)) ** 2
    blob = (0.4 + 0.6 * brightness) * np.exp(-distance / (2 * (1.2 + 2 * width) ** 2))
    images = blob + 0.4 * gradient * x / (SIDE - 1) * (1 - blob)
    noisy: Array = 0.1 + 0.8 * images + PIXEL_NOISE * random.normal(size=images.shape)
    return noisy.clip(0, 1)


def gray(n_samples: int = 5000) -> Array:
    """Return images (n_samples, 16, 16) in [0, 1]: EuroSAT, averaged over colours and squares of pixels."""
    execution = Execution()
    x = SOURCES["eurosat"].load(execution.data_directory, execution.cache_directory).x.numpy()
    chosen = x[np.random.default_rng(5).permutation(len(x))[:n_samples]] / 255
    n, channels, height, width = chosen.shape
    images: Array = chosen.reshape(n, channels, SIDE, height // SIDE, SIDE, width // SIDE).mean(axis=(1, 3, 5))
    return images


def cancer() -> Array:
    """Return the table on breast cancer (569, 30)."""
    table: Array = load_breast_cancer(return_X_y=True)[0]
    return table


MAKERS: dict[str, Callable[[], Array]] = {
    **{f"linear{n}": partial(linear, n) for n in (3, 8, 15)},
    **{f"curved{n}": partial(curved, n) for n in (3, 8, 15)},
    **{f"factors{n}": partial(factors, n) for n in (2, 3, 5)},
    "wide": wide,
    "cancer": cancer,
    "gray": gray,
}


def write(folder: Path, names: list[str]) -> None:
    """Write the data of these `names` into `folder`; files that are there already stay."""
    for name in names:
        path = folder / f"{name}.npz"
        if not path.exists():
            content = io.BytesIO()
            np.savez_compressed(content, x=MAKERS[name]().astype(np.float32))
            write_atomically(path, content.getvalue())


def main() -> None:
    """Write the data into the folder that the command line names."""
    parser = argparse.ArgumentParser(description="Make the data of the benchmark.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--names", nargs="*", default=list(MAKERS), choices=list(MAKERS), help="default: all")
    arguments = parser.parse_args()
    write(arguments.folder, arguments.names)


if __name__ == "__main__":
    main()
