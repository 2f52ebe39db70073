from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aldvae.compression.selection import SELECTIONS, selection
from aldvae.utils.errors import ArgumentError


@given(data=st.data(), name=st.sampled_from(list(SELECTIONS)), latent_dim=st.integers(1, 60), seed=st.integers(0, 99))
def test_selects_n_different_positions(data: st.DataObject, name: str, latent_dim: int, seed: int) -> None:
    n = data.draw(st.integers(1, latent_dim))
    kl = data.draw(st.lists(st.floats(0, 5), min_size=latent_dim, max_size=latent_dim))
    positions = selection(name)(latent_dim=latent_dim, n=n, seed=seed, epoch=5, kl=kl)
    assert positions == sorted(set(positions))
    assert len(positions) == n
    assert 0 <= positions[0] <= positions[-1] < latent_dim


def test_random_depends_on_seed_and_epoch_alone() -> None:
    def choose(seed: int, epoch: int) -> tuple[int, ...]:
        return tuple(selection("random")(latent_dim=100, n=5, seed=seed, epoch=epoch, kl=None))

    assert choose(3, 10) == choose(3, 10) == (6, 9, 50, 87, 95)
    assert len({choose(seed, epoch) for seed in range(4) for epoch in (5, 10, 15)}) == 12


def test_kl_selects_the_least_informative() -> None:
    assert selection("kl")(latent_dim=5, n=2, seed=0, epoch=5, kl=[0.5, 0.01, 2.0, 0.02, 1.0]) == [1, 3]


@pytest.mark.parametrize("kl", [None, [0.1, 0.2]])
def test_kl_needs_every_dimension(kl: list[float] | None) -> None:
    with pytest.raises(ArgumentError, match=r"^kl must be the KL divergence of all 3 dimensions"):
        selection("kl")(latent_dim=3, n=1, seed=0, epoch=5, kl=kl)


def test_last_selects_the_last() -> None:
    assert selection("last")(latent_dim=10, n=3, seed=0, epoch=5, kl=None) == [7, 8, 9]


def test_unknown_selection_names_the_nearest() -> None:
    with pytest.raises(ArgumentError, match=r"^select randm is not known; did you mean random"):
        selection("randm")
