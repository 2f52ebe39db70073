from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from aldvae.config.execution import Execution
from aldvae.runs.directory import FAILURE
from aldvae.runs.results import read_results
from aldvae.sweeps.executors.base import Ended, EpochDone, Event, State
from aldvae.sweeps.executors.file_sync import DirectorySync, apply_changes, pack, read_files, unpack
from aldvae.sweeps.executors.local import LocalExecutor
from aldvae.sweeps.executors.worker import hide_paths, one_line
from aldvae.training.callbacks import Callback, Row
from aldvae.training.loop import run
from aldvae.utils.devices import device_for_worker
from tests.conftest import TINY, Cli, sweep

FLAGS = ["--protocol=paper"]
FLAGS += [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items() if name != "init_dim"]
FIXED = [option for option in FLAGS if not option.startswith("--patience")]
SAME = ("config.json", "metrics.csv", "latent.csv", "decisions.csv", "model.safetensors")


def contents(results_dir: Path) -> dict[str, bytes]:
    return {f"{run.name}/{name}": (run / name).read_bytes() for run in sorted(results_dir.iterdir()) for name in SAME}


def until_ended(executor: LocalExecutor, react: Any = None) -> list[Event]:
    """Return the events until a run ends; call `react` with each."""
    events: list[Event] = []
    deadline = time.monotonic() + 60
    while not any(isinstance(event, Ended) for event in events):
        assert time.monotonic() < deadline
        for event in executor.events(0.5):
            events.append(event)
            if react is not None:
                react(event)
    return events


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the results directory of two runs that were executed alone."""
    results_dir = tmp_path_factory.mktemp("lone")
    for job in sweep("seeds", "digits", seeds=[0, 1], **TINY):
        run(job.config, Execution(results_dir=results_dir, threads=1))
    return results_dir


def test_a_worker_executes_one_job_after_another_like_lone_runs(lone: Path, tmp_path: Path) -> None:
    executor = LocalExecutor(1, Execution(results_dir=tmp_path, threads=1))
    workers = set()
    try:
        for job in sweep("seeds", "digits", seeds=[0, 1], **TINY):
            executor.submit([job])
            workers.add(executor._workers[0].process.pid)
            events = until_ended(executor)
            assert [e.epoch for e in events if isinstance(e, EpochDone)] == [1, 2, 3, 4, 5, 6]
            assert events[-1] == Ended(job.config.name, State.FINISHED)
    finally:
        executor.close()
    assert len(workers) == 1
    assert contents(tmp_path) == contents(lone)


def test_a_killed_worker_is_reported_and_its_run_resumes(lone: Path, tmp_path: Path) -> None:
    job = sweep("seeds", "digits", seeds=[0], **TINY)[0]
    executor = LocalExecutor(1, Execution(results_dir=tmp_path, threads=1))

    def kill(event: Event) -> None:
        if isinstance(event, EpochDone) and event.epoch == 3:
            os.kill(executor._workers[0].process.pid or 0, signal.SIGKILL)

    try:
        executor.submit([job])
        ended = until_ended(executor, kill)[-1]
        assert isinstance(ended, Ended)
        assert (ended.state, ended.reason) == (State.LOST, "its worker was killed by SIGKILL (out of memory?)")
        executor.submit([job])
        events = until_ended(executor)
    finally:
        executor.close()
    first = next(event.epoch for event in events if isinstance(event, EpochDone))
    assert first >= 4
    name = job.config.name
    assert {k: v for k, v in contents(lone).items() if k.startswith(name)} == contents(tmp_path)


def test_an_error_of_a_run_is_reported_without_paths_of_the_machine(tmp_path: Path) -> None:
    job = sweep("seeds", "digits", seeds=[0], **TINY)[0]
    (tmp_path / job.config.name).mkdir()
    (tmp_path / job.config.name / "config.json").write_text("{}")
    executor = LocalExecutor(1, Execution(results_dir=tmp_path))
    try:
        executor.submit([job])
        ended = until_ended(executor)[-1]
    finally:
        executor.close()
    assert isinstance(ended, Ended)
    assert ended.state is State.FAILED
    assert "config.json cannot be read" in ended.reason
    assert "ConfigError" in ended.traceback
    assert 'File "aldvae/training/loop.py"' in ended.traceback
    for outside in (str(Path.home()), sys.prefix, str(Path(__file__).parents[1])):
        assert outside + os.sep not in ended.traceback


def test_paths_are_hidden_and_reasons_are_one_line() -> None:
    site = Path(sys.prefix) / "lib" / "python3.11" / "site-packages" / "torch" / "nn.py"
    assert hide_paths(f'File "{site}", line 3') == 'File "torch/nn.py", line 3'
    assert hide_paths(f"{Path.cwd() / 'runs' / 'x'} is gone") == f"{Path('runs') / 'x'} is gone"
    assert one_line(ValueError("two\nlines")) == "ValueError: two lines"
    assert one_line(OSError(28, "No space left on device", "metrics.csv")) == "metrics.csv: No space left on device"


def test_workers_get_the_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [device_for_worker("auto", worker) for worker in range(4)] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert device_for_worker("cpu", 1) == "cpu"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert device_for_worker("auto", 1) == "auto"


def test_a_directory_sync_finds_what_changed(tmp_path: Path) -> None:
    remote, local = tmp_path / "remote", tmp_path / "local"
    sync = DirectorySync(remote, {"metrics.csv": b"1\n", "checkpoint.pt": b"old"})
    assert sync.changes() == {}
    (remote / ".lock").touch()
    with (remote / "metrics.csv").open("a") as file:
        file.write("2\n")
    (remote / "summary.json").write_text("{}")
    (remote / "checkpoint.pt").unlink()
    changes = sync.changes()
    assert changes == {"metrics.csv": b"1\n2\n", "summary.json": b"{}", "checkpoint.pt": None}
    apply_changes(local, {"checkpoint.pt": b"old"})
    apply_changes(local, changes)
    assert read_files(local) == read_files(remote)
    assert sync.changes() == {}


@pytest.mark.parametrize("folder", [False, True])
def test_own_data_travel_as_one_archive(tmp_path: Path, folder: bool) -> None:
    path = tmp_path / "photos" if folder else tmp_path / "x.npy"
    if folder:
        (path / "cats").mkdir(parents=True)
        (path / "cats" / "1.png").write_bytes(b"image")
    else:
        path.write_bytes(b"numbers")
    unpacked = unpack(pack(path), tmp_path / "elsewhere")
    assert unpacked.name == path.name
    assert (unpacked / "cats" / "1.png").read_bytes() == b"image" if folder else unpacked.read_bytes() == b"numbers"


def test_a_sweep_on_the_command_line(cli: Cli, lone: Path, tmp_path: Path) -> None:
    command = ("seeds", "--seeds=0-1", "--jobs=2", "--threads=1", "--init-dim=14", *FLAGS)
    preview = cli(*command, "--dry-run")
    assert preview.returncode == 0
    assert "2 runs, 0 finished, 2 left" in preview.stdout
    assert "for 2 told by a few training steps, as --results-dir holds no similar runs" in preview.stdout
    completed = cli(*command)
    assert completed.returncode == 0, completed.stderr
    assert contents(tmp_path / "runs") == contents(lone)
    assert completed.stdout.count("finished") == 2
    assert "2 of 2 done" in completed.stderr
    preview = cli("seeds", "--seeds=0-3", "--jobs=2", "--init-dim=14", *FLAGS, "--dry-run")
    assert "4 runs, 2 finished, 2 left" in preview.stdout
    assert "about 0:0" in preview.stdout
    again = cli(*command)
    assert again.returncode == 0
    assert "2 runs, 2 finished, 0 left" in again.stderr


def test_a_stack_on_the_command_line_ends_like_lone_runs(cli: Cli, lone: Path, tmp_path: Path) -> None:
    completed = cli("seeds", "--seeds=0-1", "--threads=1", "--init-dim=14", *FLAGS, "--population=2")
    assert completed.returncode == 0, completed.stderr
    for alone, stacked in zip(read_results(lone), read_results(tmp_path / "runs"), strict=True):
        assert stacked.config == alone.config
        assert stacked.summary is not None
        assert alone.summary is not None
        assert stacked.summary["latent_dim"] == alone.summary["latent_dim"]
        assert stacked.last["recon_loss"] == pytest.approx(alone.last["recon_loss"], rel=1e-3)


def test_failed_runs_are_reported_at_the_end_and_tried_again(cli: Cli, tmp_path: Path) -> None:
    command = ("grid", "--dims=2,4", "--seeds=0", *FIXED)
    job = sweep("grid", "digits", sizes=[2], seeds=[0], **{k: v for k, v in TINY.items() if k in _FIXED})[0]
    directory = tmp_path / "runs" / job.config.name
    directory.mkdir(parents=True)
    (directory / "metrics.csv").write_text("another program's\n")
    failed = cli(*command)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1] == "aldvae: 1 of 2 runs failed; the same command tries them again"
    assert "Traceback" not in failed.stderr
    assert "Traceback" in (directory / FAILURE).read_text()
    assert (directory / "metrics.csv").read_text() == "another program's\n"
    (directory / "metrics.csv").unlink()
    assert cli(*command).returncode == 0
    assert not (directory / FAILURE).exists()


_FIXED = ("limit", "epochs", "hidden_dim", "fid_samples", "silhouette_samples")


def test_show_prints_states_for_people_and_scripts(cli: Cli, lone: Path, tmp_path: Path) -> None:
    shutil.copytree(lone, tmp_path / "all" / "deep")
    finished, failed = sorted((tmp_path / "all" / "deep").iterdir())
    (failed / "summary.json").unlink()
    (failed / FAILURE).write_text("it broke\n\nTraceback")
    with (failed / "metrics.csv").open("a") as file:
        file.write("7,9,torn")
    runs = json.loads(cli("show", "all", "--json").stdout)
    assert [(run["run"], run["state"], run["epoch"], run["failure"]) for run in runs] == [
        (finished.name, "finished", 6, None),
        (failed.name, "failed", 6, "it broke"),
    ]
    assert runs[0]["latent_dim"] == 4
    assert runs[0]["seconds"] > 0
    lines = cli("show", "all", "--csv").stdout.splitlines()
    assert lines[0].split(",")[:3] == ["run", "dataset", "kind"]
    assert len(lines) == 3
    table = cli("show", "all").stdout
    assert f"{failed.name} failed: it broke" in table
    assert cli("show", "nowhere").returncode == 2
    assert cli("show", "all", "--json", "--csv").returncode == 2


def test_the_state_of_a_run_in_progress_is_running(tmp_path: Path) -> None:
    states: list[str] = []

    class ReadState(Callback):
        def on_epoch_end(self, epoch: int, row: Row, step: Any) -> None:  # noqa: ARG002
            states.append(read_results(tmp_path)[0].state)

    job = sweep("seeds", "digits", seeds=[0], **{**TINY, "epochs": 2})[0]
    run(job.config, Execution(results_dir=tmp_path), ReadState())
    assert states == ["running", "running"]
    assert read_results(tmp_path)[0].state == "finished"


def start_sweep(command: list[str], tmp_path: Path) -> subprocess.Popen[bytes]:
    """Start `aldvae` with the arguments `command`; return the process once a run has a checkpoint."""
    process = subprocess.Popen(
        [sys.executable, "-m", "aldvae", *command], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while not list((tmp_path / "runs").glob("*/checkpoint.pt")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_ends_in_time_and_can_resume(tmp_path: Path, signal_number: signal.Signals) -> None:
    command = ["seeds", "--seeds=0", "--init-dim=14", *(f for f in FLAGS if "epochs" not in f), "--epochs=5000"]
    process = start_sweep(command, tmp_path)
    start = time.monotonic()
    process.send_signal(signal_number)
    _, stderr = process.communicate(timeout=30)
    assert time.monotonic() - start < 10
    assert process.returncode == 130
    assert b"the same command resumes" in stderr
    (result,) = read_results(tmp_path / "runs")
    assert result.state == "unfinished"
    assert result.epochs >= 1


def test_workers_die_with_a_killed_driver(tmp_path: Path) -> None:
    command = ["seeds", "--seeds=0", "--init-dim=14", *(f for f in FLAGS if "epochs" not in f), "--epochs=5000"]
    process = start_sweep(command, tmp_path)
    process.kill()
    process.communicate()
    (result,) = read_results(tmp_path / "runs")
    deadline = time.monotonic() + 10
    while read_results(tmp_path / "runs")[0].state == "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert read_results(tmp_path / "runs")[0].state == "unfinished"
    assert result.epochs >= 1


@pytest.mark.slow
def test_kills_at_random_moments_leave_the_same_bytes() -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "kills.py"
    completed = subprocess.run(
        [sys.executable, str(script), "--kills", "4", "--epochs", "10"], capture_output=True, text=True
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert "0 differ" in completed.stdout
