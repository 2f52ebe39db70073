from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from aldvae.metrics.frechet import frechet_distance, statistics


def distance(a: Tensor, b: Tensor) -> float:
    return frechet_distance(statistics(a), statistics(b))


def textbook_distance(a: Tensor, b: Tensor) -> float:
    """Return the distance by the textbook formula with scipy's matrix square root."""
    x, y = a.double().numpy(), b.double().numpy()
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(s1 @ s2)
    difference = x.mean(0) - y.mean(0)
    return float(difference @ difference + np.trace(s1) + np.trace(s2) - 2 * np.trace(root).real)


def features(n: int, d: int, seed: int = 0, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=random, dtype=torch.float64)
    return torch.randn(n, d, generator=random, dtype=torch.float64) @ mix * scale + shift


@pytest.mark.parametrize(("n", "m", "d"), [(200, 150, 8), (60, 60, 59), (64, 64, 64), (30, 200, 50)])
def test_equals_the_formula_with_the_square_root_of_scipy(n: int, m: int, d: int) -> None:
    a, b = features(n, d, 1), features(m, d, 2, scale=1.3, shift=0.5)
    assert distance(a, b) == pytest.approx(textbook_distance(a, b), rel=1e-5)


def test_rank_deficient_features_are_supported() -> None:
    # For a singular product, scipy's square root is accurate only to about 1e-6 of the trace.
    a, b = features(20, 60, 1), features(25, 60, 2)
    assert distance(a, b) == pytest.approx(textbook_distance(a, b), rel=1e-5)


@settings(deadline=None, max_examples=40)
@given(n=st.integers(2, 60), d=st.integers(1, 40), seed=st.integers(0, 1000))
def test_is_not_negative_symmetric_and_zero_to_itself(n: int, d: int, seed: int) -> None:
    a, b = features(n, d, seed), features(n + 3, d, seed + 1)
    size = float(a.square().sum() / n + b.square().sum() / n)
    assert distance(a, b) >= 0
    assert distance(a, b) == pytest.approx(distance(b, a), rel=1e-9, abs=1e-9 * size)
    assert distance(a, a) == pytest.approx(0, abs=1e-9 * size)
    order = torch.randperm(n)
    assert distance(a[order], b) == pytest.approx(distance(a, b), rel=1e-6, abs=1e-6 * size)


@pytest.mark.parametrize(("n", "d"), [(300, 10), (10, 40)])
def test_closed_forms(n: int, d: int) -> None:
    a = features(n, d)
    assert distance(a, a + 2.0) == pytest.approx(4.0 * d, rel=1e-6)
    # Equal directions: tr (S^1/2 - c S^1/2)^2 = (1 - c)^2 tr S.
    centred = a - a.mean(0)
    trace = float(centred.square().sum() / (n - 1))
    assert distance(centred, 3 * centred) == pytest.approx(4 * trace, rel=1e-6)


@pytest.mark.parametrize(("n", "d"), [(5, 9), (9, 5)])
def test_statistics_stay_on_the_device_of_the_features(n: int, d: int) -> None:
    # Tensors on the meta device cannot be copied to the CPU.
    computed = statistics(torch.empty(n, d, device="meta"))
    assert {computed.mean.device.type, computed.factor.device.type} == {"meta"}


def test_one_sample_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="2 samples or more"):
        statistics(torch.zeros(1, 4))
