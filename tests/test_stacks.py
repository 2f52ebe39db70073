from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from aldvae.config.execution import Execution, Schedule
from aldvae.sweeps import stacking
from aldvae.sweeps.stacking import MAX_RUNS, RUN_BYTES, runs_per_gpu, stack_size


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate two GPUs of 24 GiB, which this process queries itself instead of starting another."""
    monkeypatch.setattr(stacking, "_has_driver", lambda: True)
    monkeypatch.setattr(stacking, "_ask_process", runs_per_gpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    properties = SimpleNamespace(total_memory=24 * RUN_BYTES)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(
    ("device", "runs", "slots", "expected"),
    [
        ("auto", 100, 1, MAX_RUNS),
        ("auto", 100, 4, 12),
        ("cuda:1", 100, 4, 6),
        ("cuda", 100, 25, 1),
        ("auto", 5, 2, 3),
        ("auto", 1, 1, 1),
        ("cpu", 100, 1, 1),
    ],
)
def test_a_stack_fits_on_its_gpu_and_leaves_no_worker_idle(device: str, runs: int, slots: int, expected: int) -> None:
    assert stack_size(Schedule(), Execution(device=device), runs, slots) == expected


@pytest.mark.usefixtures("gpus")
def test_an_explicit_population_holds_on_every_device() -> None:
    for device in ("auto", "cpu"):
        assert stack_size(Schedule(population="off"), Execution(device=device), 100, 1) == 1
        assert stack_size(Schedule(population="40"), Execution(device=device), 100, 1) == 40


@pytest.mark.usefixtures("gpus")
def test_on_ray_every_run_is_alone() -> None:
    assert stack_size(Schedule(executor="ray"), Execution(), 100, 4) == 1


def test_the_process_that_queries_the_gpu_returns_one_without_a_gpu() -> None:
    assert stacking._ask_process("cpu", 1) == 1


def test_without_a_driver_no_process_queries_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(_: str) -> None:
        raise OSError

    monkeypatch.setattr("ctypes.CDLL", no_library)
    monkeypatch.setattr(stacking, "_ask_process", lambda *_: pytest.fail("asked"))
    assert stack_size(Schedule(), Execution(), 100, 1) == 1
