from __future__ import annotations

import torch

from aldvae.utils.devices import cpu_settings


def denormals_kept() -> bool:
    """Return whether the product of two tiny numbers is a denormal instead of 0."""
    return bool(torch.tensor([1e-30]) * torch.tensor([1e-10]) != 0)


def test_threads_and_denormals_are_set_inside_the_context_and_restored_outside() -> None:
    before = torch.get_num_threads()
    assert denormals_kept()
    with cpu_settings(2) as outer:
        assert outer == torch.get_num_threads() == 2
        with cpu_settings(1):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        assert not denormals_kept()
        with cpu_settings(None) as unchanged:
            assert unchanged == 2
    assert torch.get_num_threads() == before
    assert denormals_kept()
