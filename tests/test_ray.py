"""Sweeps on a Ray cluster of two local nodes, of which one is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from aldvae.runs.directory import RunDirectory
from aldvae.sweeps.executors.base import Ended, EpochDone, Message, State
from tests.conftest import sweep
from tests.test_executors import FLAGS, contents

pytest.importorskip("ray")
pytestmark = pytest.mark.slow
# Newer versions of Ray require a token that all nodes share.
ENVIRONMENT = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
SWEEP = ["seeds", "--seeds=0-1", "--init-dim=14", "--threads=1", *(f for f in FLAGS if "epochs" not in f)]


@contextmanager
def node(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a node with one CPU in its own process group; yield its process, and kill the group at the end."""
    command = [*RAY, "start", "--block", "--num-cpus=1", *arguments]
    process = subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for_nodes(address: str, number: int) -> None:
    """Wait until the cluster at `address` has `number` nodes."""
    deadline = time.monotonic() + 90
    command = [*RAY, "status", f"--address={address}"]
    while True:
        status = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True).stdout
        if f"/{number}.0 CPU" in status:
            return
        assert time.monotonic() < deadline, status
        time.sleep(0.5)


@pytest.fixture
def cluster() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start a cluster of two nodes; yield its address and the process of the second node."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    with node("--head", f"--port={port}", "--include-dashboard=false"), node(f"--address={address}") as second:
        wait_for_nodes(address, 2)
        yield address, second


def test_a_node_dies_and_every_run_ends_with_the_bytes_of_a_local_run(
    cluster: tuple[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    address, second = cluster
    local, remote = tmp_path / "local", tmp_path / "remote"
    # Long enough that both runs overlap, also on a busy machine, and the node dies in the middle of one.
    command = [sys.executable, "-m", "aldvae", *SWEEP, "--epochs=400"]
    subprocess.run([*command, f"--results-dir={local}"], check=True, capture_output=True)
    on_ray = [*command, "--executor=ray", f"--ray-address={address}", f"--results-dir={remote}"]
    driver = subprocess.Popen(on_ray, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 120
    while len(list(remote.glob("*/checkpoint.pt"))) < 2:
        assert time.monotonic() < deadline
        assert driver.poll() is None, driver.communicate()[0]
        time.sleep(0.05)
    kill(second)
    output, _ = driver.communicate(timeout=180)
    assert driver.returncode == 0, output
    assert "trying again from its checkpoint" in output
    assert contents(remote) == contents(local)


def test_while_stopping_a_run_ends_with_its_next_epoch_not_with_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    from aldvae.sweeps.executors.ray_cluster import RayExecutor, _Running

    (job,) = sweep("seeds", "digits", seeds=[0])
    name = job.config.name
    executor = RayExecutor.__new__(RayExecutor)
    running = _Running(job, RunDirectory(Path(), job.config), None, ExitStack())
    executor._stopping, executor._running = True, {name: running}
    message, epoch = Message(name, "text"), EpochDone(name, 1, 9, 0.1)
    arriving = iter([message, epoch])
    monkeypatch.setattr(executor, "_next_event", lambda _: next(arriving))
    monkeypatch.setattr("ray.cancel", lambda *_, **__: None)
    assert executor._receive(running) == [message]
    assert executor._receive(running) == [epoch, Ended(name, State.STOPPED)]
    assert executor._running == {}


def test_an_unreachable_cluster_is_reported_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "aldvae", *SWEEP, "--executor=ray", "--ray-address=127.0.0.1:1"]
    completed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert completed.returncode == 2
    assert "--ray-address 127.0.0.1:1 cannot be reached" in completed.stderr.splitlines()[-1]
    assert not (tmp_path / "runs").exists()


def test_an_error_before_the_first_epoch_is_reported_unchanged(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).integers(0, 256, (80, 8, 8), dtype=np.uint8))
    command = [sys.executable, "-m", "aldvae", "seeds", "--dataset=x.npz", "--clusters=3", "--seeds=0-1", "--epochs=2"]
    command += ["--fid-features=classifier", "--validation=0.4", "--fid-samples=20", "--silhouette-samples=20"]
    completed = subprocess.run(
        [*command, "--executor=ray", "--jobs=1"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert completed.returncode == 1
    assert completed.stdout.count("classifier needs labels of two classes or more") == 2
    assert "died" not in completed.stderr


def test_more_gpus_than_the_cluster_has_are_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "aldvae", *SWEEP, "--executor=ray", "--jobs=1", "--gpus-per-run=64"]
    completed = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert completed.returncode == 2
    assert "--gpus-per-run or --threads asks for more than the Ray cluster has" in completed.stderr
