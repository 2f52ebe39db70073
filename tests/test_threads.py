"""Waiting threads sleep where the command line runs, and a run uses as many threads as its steps keep busy."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from aldvae.config.execution import Execution
from aldvae.models.build import build_vae
from aldvae.training.loop import run
from aldvae.training.workload import WORK_PER_THREAD, default_threads, multiply_adds
from tests.conftest import TINY, resolve

FLAGS = ("--protocol=paper", *(f"--{name.replace('_', '-')}={value}" for name, value in {**TINY, "epochs": 1}.items()))


def python(code: str, **environment: str) -> str:
    """Return what `code` prints in a process without a policy of its own."""
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    line = [sys.executable, "-c", code]
    return subprocess.run(line, env={**inherited, **environment}, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("command", [("adaptive",), ("seeds", "--seeds=0")])
def test_waiting_threads_sleep_in_every_process_of_the_command_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    """libgomp, when torch loads it, tells how often a waiting thread spins: 300,000 times where nothing is set."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    line = [sys.executable, "-m", "aldvae", *command, *FLAGS, f"--results-dir={tmp_path}"]
    told = subprocess.run(line, env={**environment, "OMP_DISPLAY_ENV": "verbose"}, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    spins = re.findall(r"GOMP_SPINCOUNT = '(\w+)'", told.stderr)
    if sys.platform == "linux":
        assert spins
    assert set(spins) <= {"0"}


COMMAND = """
import os
from aldvae.cli import main
try:
    main()
finally:
    print(os.environ["OMP_WAIT_POLICY"])
"""


def test_what_the_user_sets_wins() -> None:
    assert python(COMMAND).splitlines()[-1] == "passive"
    assert python(COMMAND, OMP_WAIT_POLICY="active").splitlines()[-1] == "active"


def test_the_library_leaves_the_policy_alone() -> None:
    code = "import os, aldvae, aldvae.training.loop; print(os.environ.get('OMP_WAIT_POLICY'))"
    assert python(code).strip() == "None"


WORKER = """
import os, sys, threading
from aldvae.config.execution import Execution
from aldvae.sweeps.executors import local

class Connection:
    messages, send = [["a stack"]], print
    def recv(self):
        return self.messages.pop() if self.messages else threading.Event().wait()

def execute(*_):
    print(os.environ["OMP_WAIT_POLICY"], flush=True)
    os._exit(0)

assert "torch" not in sys.modules
local.execute = execute
local.work(Connection(), 0, Execution(device="cpu"))
"""


def test_a_worker_sets_it_for_itself() -> None:
    assert python(WORKER).strip() == "passive"
    assert python(WORKER, OMP_WAIT_POLICY="active").strip() == "active"


def test_multiply_adds_of_the_networks_have_closed_forms() -> None:
    mlp = build_vae((30,), 5, network="mlp", hidden_dim=40)
    assert multiply_adds(mlp, (30,)) == 2 * (30 * 40 + 40 * 40) + 3 * 40 * 5
    conv = build_vae((3, 64, 64), 16, network="conv", hidden_dim=256)
    # Four convolutions of 4 x 4, each to half the height and width; the decoder mirrors them.
    layers = 4 * 4 * (3 * 32 * 32**2 + 32 * 32 * (16**2 + 8**2 + 4**2))
    flat = 32 * 4 * 4
    linear = flat * 256 + 256 * 256
    assert multiply_adds(conv, (3, 64, 64)) == 2 * (layers + linear) + 3 * 256 * 16
    assert conv.training


def test_counting_leaves_the_model_and_the_random_streams_as_they_were() -> None:
    model = build_vae((3, 4, 16, 16), 4, network="video", channels=8)
    before, random = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    assert multiply_adds(model, (3, 4, 16, 16)) > 0
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("dataset", "shape", "settings", "threads"),
    [
        ("digits", (1, 8, 8), {}, 1),
        ("mnist", (1, 28, 28), {"fid_features": "pca"}, 1),
        ("mnist", (1, 28, 28), {"fid_features": "pca", "batch_size": 640}, 11),
        ("eurosat", (3, 64, 64), {"fid_features": "pca"}, 15),
        ("eurosat", (3, 64, 64), {"fid_features": "pca", "batch_size": 128}, 16),
        ("mnist", (1, 28, 28), {"fid_features": "inception"}, None),
    ],
)
def test_the_threads_follow_the_work_in_a_step(
    monkeypatch: pytest.MonkeyPatch, dataset: str, shape: tuple[int, ...], settings: dict[str, Any], threads: int | None
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    config = resolve("adaptive", dataset, **settings)
    model = build_vae(shape, config.model.init_dim, **config.network_settings)
    assert default_threads(config, model, shape) == threads
    if threads is not None:
        stack = config.training.batch_size * 30 * multiply_adds(model, shape) // WORK_PER_THREAD
        assert default_threads(config, model, shape, n_runs=30) == max(1, min(16, stack))


def test_the_threads_of_a_run_are_recorded_and_those_that_are_set_win(tmp_path: Path) -> None:
    for threads, expected in ((None, 1), (2, 2)):
        path = run(
            resolve("adaptive", "digits", **TINY), Execution(results_dir=tmp_path / str(threads), threads=threads)
        ).path
        (session,) = json.loads((path / "provenance.json").read_text())["sessions"]
        assert session["threads"] == expected
    assert torch.get_num_threads() >= 1
