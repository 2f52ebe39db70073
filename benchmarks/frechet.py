"""Claim: the Fréchet distance of 500 x 2048 features takes a hundredth of the formula with scipy's matrix square root.

Run `python benchmarks/frechet.py`; one thread, both on the same features in one process. The hardware's limit is
the matrix product and the singular values that the distance needs, without statistics.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import torch
from timing import medians, report, roofline

from aldvae.metrics.frechet import frechet_distance, statistics
from aldvae.utils.devices import cpu_settings

FLOOR = "product, singular values"


def by_square_root(a: np.ndarray, b: np.ndarray) -> float:
    """Return the distance as pytorch-fid computes it, its statistics included."""
    s1, s2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    difference = a.mean(0) - b.mean(0)
    root = scipy.linalg.sqrtm(s1 @ s2)
    return float(difference @ difference + np.trace(s1) + np.trace(s2) - 2 * np.trace(root.real))


def ours(a: np.ndarray, b: np.ndarray) -> float:
    """Return the distance as aldvae computes it, its statistics included."""
    return frechet_distance(statistics(torch.from_numpy(a)), statistics(torch.from_numpy(b)))


def main() -> None:
    """Time both ways alternately."""
    random = np.random.default_rng(0)
    # Like Inception's features, these are not negative and strongly correlated.
    mix = random.normal(size=(2048, 2048)) / 45
    a, b = (np.maximum(random.normal(size=(500, 2048)) @ mix + shift, 0) for shift in (0.0, 0.1))
    with cpu_settings(1):
        values = ours(a, b), by_square_root(a, b)
        x, y = torch.from_numpy(a), torch.from_numpy(b)
        ways = {
            "aldvae": lambda: ours(a, b),
            "scipy sqrtm": lambda: by_square_root(a, b),
            FLOOR: lambda: torch.linalg.svdvals(x @ y.T),
        }
        seconds = medians(ways, repetitions=3)
    report(seconds, against="scipy sqrtm")
    roofline(seconds, "aldvae", FLOOR)
    print(f"relative difference of the values: {abs(values[0] - values[1]) / values[1]:.1e}")


if __name__ == "__main__":
    main()
