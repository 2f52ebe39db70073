from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.image import imread
from safetensors import safe_open

import aldvae
from aldvae.compression.rules.base import Decision
from aldvae.compression.rules.robust import RobustRule
from aldvae.compression.steps import Step
from aldvae.config.execution import Execution
from aldvae.config.run_config import RunConfig
from aldvae.data.dataset import to_float
from aldvae.metrics.evaluation import Evaluator
from aldvae.models.likelihood import OptimalGaussian
from aldvae.reporting.figures.run_overview import draw_overview
from aldvae.runs.directory import RunDirectory
from aldvae.runs.records import COLUMNS
from aldvae.training.callbacks import Callback, Row
from aldvae.training.loop import Outcome, run
from aldvae.training.trainer import Trainer
from aldvae.utils.errors import AldvaeError, BusyError, ConfigError, DivergedError
from tests.conftest import TINY, digits, resolve

# Times differ from run to run; everything else must not.
SAME = ("config.json", "metrics.csv", "latent.csv", "decisions.csv")


def tiny(**changes: Any) -> RunConfig:
    return resolve("adaptive", "digits", **{**TINY, **changes})


def contents(directory: Path) -> dict[str, bytes]:
    summary = json.loads((directory / "summary.json").read_text())
    kept = {name: value for name, value in summary.items() if not name.endswith("_seconds")}
    return {name: (directory / name).read_bytes() for name in SAME} | {"summary": json.dumps(kept).encode()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tiny(), Execution(results_dir=tmp_path_factory.mktemp("undisturbed"))).path


class Interrupt(Callback):
    """Records epochs and messages; interrupts the run after epoch `after` (0: never)."""

    def __init__(self, after: int = 0) -> None:
        self.after, self.epochs, self.messages = after, list[int](), list[str]()

    def on_message(self, text: str, general: bool = False) -> None:  # noqa: ARG002
        self.messages.append(text)

    def on_epoch_end(self, epoch: int, row: Row, step: Step | None) -> None:  # noqa: ARG002
        self.epochs.append(epoch)
        if epoch == self.after:
            raise KeyboardInterrupt


def test_a_run_writes_its_tables_and_deletes_its_checkpoint(undisturbed: Path) -> None:
    metrics = pd.read_csv(undisturbed / "metrics.csv")
    assert tuple(metrics.columns) == COLUMNS["metrics"]
    assert metrics["epoch"].tolist() == list(range(1, 7))
    assert metrics["latent_dim"].tolist() == [14, 14, 9, 9, 4, 4]
    assert set(metrics["fid_features"]) == {"classifier"}
    assert set(metrics["fid_samples"]) == {50}
    latent = pd.read_csv(undisturbed / "latent.csv")
    assert latent.groupby("epoch")["neuron"].count().tolist() == metrics["latent_dim"].tolist()
    assert np.allclose(latent.groupby("epoch")["kl"].sum(), metrics["kl"], rtol=1e-5)
    decisions = pd.read_csv(undisturbed / "decisions.csv")
    assert decisions["epoch"].tolist() == [2, 4, 6]
    # Nothing is removed at the last epoch: no training would follow.
    assert decisions["action"].tolist() == ["remove", "remove", "keep"]
    gone = [int(n) for cell in decisions["removed"].dropna() for n in cell.split()]
    assert len(gone) == len(set(gone)) == 10
    for decision in decisions.dropna(subset="removed").itertuples():
        after = latent[latent["epoch"] > decision.epoch]["neuron"]
        assert not set(after) & {int(n) for n in str(decision.removed).split()}
    assert tuple(pd.read_csv(undisturbed / "times.csv").columns) == COLUMNS["times"]
    assert not (undisturbed / "checkpoint.pt").exists()


def test_names_no_path_outside_its_directory(undisturbed: Path) -> None:
    for file in undisturbed.iterdir():
        content = file.read_bytes()
        for outside in (str(undisturbed.parent), str(Path.home()), os.getcwd(), sys.prefix):  # noqa: PTH109
            assert outside.encode() not in content, (file, outside)


def test_the_same_seed_gives_the_same_results_and_another_seed_others(undisturbed: Path, tmp_path: Path) -> None:
    again = run(tiny(), Execution(results_dir=tmp_path)).path
    assert again.name == undisturbed.name
    assert contents(again) == contents(undisturbed)
    other = run(tiny(seed=1), Execution(results_dir=tmp_path)).path
    assert (other / "metrics.csv").read_bytes() != (undisturbed / "metrics.csv").read_bytes()


@pytest.mark.parametrize(
    "metrics",
    [
        {"fid_features": "none"},
        {"fid_features": "pca"},
        {"fid_samples": 40, "silhouette_samples": 30},
        {"silhouette_on": "means", "silhouette_groups": "classes"},
        {"metrics_every": 2},
    ],
)
def test_metrics_do_not_affect_training(undisturbed: Path, tmp_path: Path, metrics: dict[str, Any]) -> None:
    other = run(tiny(**metrics), Execution(results_dir=tmp_path)).path
    losses = [pd.read_csv(path / "metrics.csv")["train_loss"].tolist() for path in (undisturbed, other)]
    assert losses[0] == losses[1]


def test_metrics_on_every_second_epoch(undisturbed: Path, tmp_path: Path) -> None:
    outcome = run(tiny(epochs=9, metrics_every=2), Execution(results_dir=tmp_path))
    metrics = pd.read_csv(outcome.path / "metrics.csv")
    assert metrics["epoch"].tolist() == list(range(1, 10))
    assert metrics["recon_loss"].notna().tolist() == [False, True] * 4 + [True]
    assert metrics["train_loss"].notna().all()
    every = pd.read_csv(undisturbed / "metrics.csv")
    assert metrics["recon_loss"][1] == every["recon_loss"][1]
    image = imread(draw_overview(outcome.path))
    panel = image[-400:-60, : image.shape[1] // 2, :3]
    assert (panel.max(axis=2) - panel.min(axis=2) > 0.3).sum() > 100, "no blue line is drawn in the last panel"
    with pytest.raises(ConfigError, match="--metrics-every must divide --patience 2"):
        tiny(metrics_every=3)


@pytest.mark.parametrize("after", range(1, 7))
def test_an_interrupted_run_resumes_at_its_next_epoch(undisturbed: Path, tmp_path: Path, after: int) -> None:
    execution = Execution(results_dir=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(tiny(), execution, Interrupt(after))
    directory = tmp_path / tiny().name
    # What a kill in the middle of the next epoch could leave behind.
    with (directory / "metrics.csv").open("a") as file:
        file.write(f"{after + 1},14,9.9,torn")
    callback = Interrupt()
    assert contents(run(tiny(), execution, callback).path) == contents(undisturbed)
    assert callback.epochs == list(range(after + 1, 7))
    sessions = json.loads((directory / "provenance.json").read_text())["sessions"]
    assert [session["first_epoch"] for session in sessions] == [1, after + 1]


def test_resuming_with_other_threads_is_reported(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tiny(), Execution(results_dir=tmp_path, threads=1), Interrupt(2))
    callback = Interrupt()
    run(tiny(), Execution(results_dir=tmp_path, threads=2), callback)
    assert any("started on cpu with 1 threads" in text for text in callback.messages)


def test_a_directory_in_use_is_left_to_the_other_process(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path, tiny())
    with directory.locked(), pytest.raises(BusyError, match="being worked on by another process"):
        run(tiny(), Execution(results_dir=tmp_path), wait=False)
    assert not (directory.path / "metrics.csv").exists()


@pytest.mark.parametrize("name", ["summary.json", "provenance.json", "config.json", "checkpoint.pt"])
def test_files_of_another_program_are_reported(undisturbed: Path, tmp_path: Path, name: str) -> None:
    directory = tmp_path / undisturbed.name
    if name == "summary.json":
        shutil.copytree(undisturbed, directory)
    else:
        with pytest.raises(KeyboardInterrupt):
            run(tiny(), Execution(results_dir=tmp_path), Interrupt(2))
    if name == "checkpoint.pt":
        torch.save({"other": 1}, directory / name)
        callback = Interrupt()
        assert contents(run(tiny(), Execution(results_dir=tmp_path), callback).path) == contents(undisturbed)
        assert any("resuming from the previous checkpoint" in text for text in callback.messages)
        return
    (directory / name).write_text("{}")
    with pytest.raises(ConfigError, match=name):
        run(tiny(), Execution(results_dir=tmp_path))


def test_a_finished_run_is_left_alone(undisturbed: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in undisturbed.iterdir()}
    callback = Interrupt()
    outcome = run(tiny(), Execution(results_dir=undisturbed.parent), callback)
    assert outcome.skipped
    assert callback.epochs == []
    assert {file: file.stat().st_mtime_ns for file in undisturbed.iterdir()} == before


@pytest.mark.parametrize(
    ("damaged", "message", "first"),
    [
        (["checkpoint.pt"], "checkpoint.pt is damaged; resuming from the previous checkpoint", 3),
        (["checkpoint.pt", "checkpoint.previous.pt"], "the run starts again at epoch 1", 1),
    ],
)
def test_a_damaged_checkpoint_is_reported_and_replaced(
    undisturbed: Path, tmp_path: Path, damaged: list[str], message: str, first: int
) -> None:
    execution = Execution(results_dir=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(tiny(), execution, Interrupt(3))
    for name in damaged:
        checkpoint = tmp_path / tiny().name / name
        content = bytearray(checkpoint.read_bytes())
        # The newest is cut short; the previous one gets a flipped bit in the middle of its weights.
        checkpoint.write_bytes(content[:1000])
        if name == "checkpoint.previous.pt":
            content[len(content) // 2] ^= 1
            checkpoint.write_bytes(content)
    callback = Interrupt()
    assert contents(run(tiny(), execution, callback).path) == contents(undisturbed)
    assert any(message in text for text in callback.messages)
    assert callback.epochs[0] == first


def test_a_torn_table_is_repaired_and_reported(undisturbed: Path, tmp_path: Path) -> None:
    execution = Execution(results_dir=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(tiny(), execution, Interrupt(3))
    table = tmp_path / tiny().name / "latent.csv"
    table.write_text(table.read_text()[:-7])
    callback = Interrupt()
    assert contents(run(tiny(), execution, callback).path) == contents(undisturbed)
    assert "latent.csv: restored from the last checkpoint" in callback.messages


@pytest.mark.parametrize("deleted", ["everything", "metrics.csv"])
def test_a_directory_that_disappears_is_written_again(undisturbed: Path, tmp_path: Path, deleted: str) -> None:
    class Vanish(Interrupt):
        def on_epoch_end(self, epoch: int, row: Row, step: Step | None) -> None:
            super().on_epoch_end(epoch, row, step)
            if epoch == 3:
                shutil.rmtree(tmp_path) if deleted == "everything" else (tmp_path / tiny().name / deleted).unlink()

    callback = Vanish()
    outcome = run(tiny(), Execution(results_dir=tmp_path), callback)
    assert contents(outcome.path) == contents(undisturbed)
    assert any("has disappeared" in text for text in callback.messages)


def test_a_full_disk_loses_nothing(undisturbed: Path, tmp_path: Path) -> None:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
    command = [sys.executable, "-m", "aldvae", "adaptive", "--protocol=paper", *options, f"--results-dir={tmp_path}"]
    # No file may grow beyond this size, as on a disk that is nearly full: the first checkpoint does not fit.
    limit = 72_000

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    stopped = subprocess.run(command, preexec_fn=small, capture_output=True, text=True)
    assert stopped.returncode == 2
    message = stopped.stderr.splitlines()[-1]
    assert re.match(r"aldvae: .*checkpoint\.new\.pt: File too large; ", message)
    assert "Traceback" not in stopped.stderr
    subprocess.run(command, check=True, capture_output=True)
    assert contents(tmp_path / undisturbed.name) == contents(undisturbed)


def test_a_second_process_waits_for_the_first(undisturbed: Path, tmp_path: Path) -> None:
    first = Thread(target=lambda: run(tiny(), Execution(results_dir=tmp_path), Started(started)))
    started = Event()
    first.start()
    assert started.wait(60)
    callback = Interrupt()
    outcome = run(tiny(), Execution(results_dir=tmp_path), callback)
    first.join()
    assert outcome.skipped
    assert callback.epochs == []
    assert any("another process is at work" in text for text in callback.messages)
    assert contents(outcome.path) == contents(undisturbed)


class Started(Callback):
    """Sets an event when the run starts, and slows each epoch down."""

    def __init__(self, started: Event) -> None:
        self.started = started

    def on_start(self, config: RunConfig, first_epoch: int) -> None:  # noqa: ARG002
        self.started.set()

    def on_epoch_end(self, epoch: int, row: Row, step: Step | None) -> None:  # noqa: ARG002
        time.sleep(0.2)


@pytest.mark.parametrize("kills", [3])
def test_survives_sigkill_at_any_moment(undisturbed: Path, tmp_path: Path, kills: int) -> None:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
    command = [sys.executable, "-m", "aldvae", "adaptive", "--protocol=paper", *options, f"--results-dir={tmp_path}"]
    directory, random = tmp_path / undisturbed.name, np.random.default_rng()
    for _ in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (directory / "metrics.csv").exists():
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, capture_output=True)
    assert contents(directory) == contents(undisturbed)


def test_the_model_loads_with_one_call_and_is_the_trained_one(undisturbed: Path, tmp_path: Path) -> None:
    model = aldvae.load(undisturbed)
    assert model.latent_dim == json.loads((undisturbed / "summary.json").read_text())["latent_dim"] == 4
    assert not model.training
    config = tiny(fid_features="none")
    path = run(config, Execution(results_dir=tmp_path)).path
    evaluator = Evaluator(config, digits(200).validation, None, tmp_path, torch.device("cpu"))
    measured = evaluator.evaluate(aldvae.load(path / "model.safetensors"), 6).rounded().metrics
    row = pd.read_csv(path / "metrics.csv").iloc[-1]
    assert {name: row[name] for name in measured} == pytest.approx(measured, rel=1e-5)


def test_a_missing_or_damaged_model_is_refused(undisturbed: Path, tmp_path: Path) -> None:
    with pytest.raises(AldvaeError, match="does not exist"):
        aldvae.load(tmp_path)
    damaged = tmp_path / "model.safetensors"
    damaged.write_bytes((undisturbed / "model.safetensors").read_bytes()[:200])
    with pytest.raises(AldvaeError, match="damaged"):
        aldvae.load(damaged)


def test_no_stop_shrinks_to_two_and_records_where_it_would_have_stopped(tmp_path: Path) -> None:
    # With these thresholds the rule stops as soon as its window is full.
    always = {f"threshold_{m}": float("-inf") for m in ("recon_loss", "silhouette", "fid_recon", "fid_gen")}
    stopping = tiny(window=4, epochs=10, **always)
    stopped = run(stopping, Execution(results_dir=tmp_path)).summary
    assert (stopped["stop_epoch"], stopped["stop_latent_dim"], stopped["latent_dim"]) == (4, 9, 9)
    continued = run(stopping.override(stop=False), Execution(results_dir=tmp_path))
    assert (continued.summary["stop_epoch"], continued.summary["stop_latent_dim"]) == (4, 9)
    assert continued.summary["latent_dim"] == 2
    decisions = pd.read_csv(continued.path / "decisions.csv")
    assert decisions["action"].tolist()[:2] == ["remove", "would stop"]


def test_a_fixed_size_stays(tmp_path: Path) -> None:
    outcome = run(
        resolve("fixed", "digits", **{**TINY, "epochs": 3, "patience": None}), Execution(results_dir=tmp_path)
    )
    assert outcome.summary["latent_dim"] == 14
    assert set(pd.read_csv(outcome.path / "metrics.csv")["latent_dim"]) == {14}


def test_a_loss_of_nan_keeps_the_earlier_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = Trainer.train_epoch
    monkeypatch.setattr(
        Trainer, "train_epoch", lambda self, epoch: float("nan") if epoch == 4 else healthy(self, epoch)
    )
    with pytest.raises(DivergedError, match="epoch 4: train_loss is nan"):
        run(tiny(), Execution(results_dir=tmp_path))
    directory = tmp_path / tiny().name
    assert pd.read_csv(directory / "metrics.csv")["epoch"].tolist() == [1, 2, 3]
    assert not (directory / "summary.json").exists()


def test_a_directory_with_another_run_is_refused(undisturbed: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(undisturbed, tmp_path / undisturbed.name)
    stored = json.loads((directory / "config.json").read_text())
    stored["settings"]["lr"] = 0.5
    (directory / "config.json").write_text(json.dumps(stored))
    with pytest.raises(ConfigError, match=r"--results-dir .* another lr"):
        run(tiny(), Execution(results_dir=tmp_path))
    (directory / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        run(tiny(), Execution(results_dir=tmp_path))


def test_an_unfinished_run_on_other_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tiny(), Execution(results_dir=tmp_path), Interrupt(2))
    with pytest.raises(ConfigError, match="another data"):
        RunDirectory(tmp_path, tiny()).check({"data": "other", "features": "other"})


def test_a_results_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"--results-dir .* cannot be written"):
        run(tiny(), Execution(results_dir=tmp_path / "file"))


def test_an_absent_device_is_refused(tmp_path: Path) -> None:
    absent = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(ConfigError, match=f"--device {absent} is not available"):
        run(tiny(), Execution(results_dir=tmp_path, device=absent))
    with pytest.raises(ConfigError, match="--device gpu is not known"):
        run(tiny(), Execution(results_dir=tmp_path, device="gpu"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shrunk_layers", ["trained", "frozen"])
def test_every_parameter_that_is_not_frozen_moves_after_a_removal(shrunk_layers: str) -> None:
    trainer = Trainer(tiny(shrunk_layers=shrunk_layers), digits(200), torch.device("cpu"))
    trainer.train_epoch(1)
    assert trainer.compressor is not None
    for epoch in range(2):
        trainer.compressor.step(recon_loss=1.0 - epoch, silhouette=0.0, fid_recon=1.0, fid_gen=1.0)
    assert trainer.model.latent_dim == 9
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train_epoch(2)
    unchanged = {name for name, p in trainer.model.named_parameters() if torch.equal(p, before[name])}
    in_optimizer = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    shrunk = {f"{layer}.{part}" for layer in ("mu", "log_var", "reader") for part in ("weight", "bias")}
    assert unchanged == (shrunk if shrunk_layers == "frozen" else set())
    assert in_optimizer == {id(p) for name, p in trainer.model.named_parameters() if name not in unchanged}


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_training_images_have_a_new_order_each_epoch_unless_shuffle_is_off(
    monkeypatch: pytest.MonkeyPatch, shuffle: bool
) -> None:
    data, batches, step = digits(200), list[torch.Tensor](), Trainer.step

    def recording_step(trainer: Trainer, x: torch.Tensor, random: torch.Generator, kl_weight: float) -> torch.Tensor:
        batches.append(x)
        return step(trainer, x, random, kl_weight)

    monkeypatch.setattr(Trainer, "step", recording_step)
    trainer = Trainer(tiny(shuffle=shuffle), data, torch.device("cpu"))
    for epoch in (1, 2):
        trainer.train_epoch(epoch)
    first, second = torch.cat(batches).split(len(data.train))
    expected = to_float(data.train.x)
    assert torch.equal(first, expected) == torch.equal(first, second) == (not shuffle)
    assert torch.equal(first.flatten(1).unique(dim=0), expected.flatten(1).unique(dim=0))


def test_the_weight_of_the_kl_divergence_rises_over_the_warmup() -> None:
    trainer = Trainer(tiny(epochs=10, warmup=0.25, beta=2.0), digits(200), torch.device("cpu"))
    assert trainer.kl_weight(1, 0.0) == 0
    assert trainer.kl_weight(2, 0.25) == pytest.approx(1.0)
    assert [trainer.kl_weight(epoch, progress) for epoch, progress in ((3, 0.5), (4, 0.0), (10, 1.0))] == [
        2.0,
        2.0,
        2.0,
    ]
    always = Trainer(tiny(beta=2.0), digits(200), torch.device("cpu"))
    assert always.kl_weight(1, 0.0) == 2.0


def test_a_warmup_changes_training_and_not_what_metrics_mean(tmp_path: Path) -> None:
    """The first epoch's loss weighs less KL divergence than its metrics do, and the latent space is used more."""
    warm, cold = (
        pd.read_csv(run(tiny(warmup=share, epochs=6), Execution(results_dir=tmp_path)).path / "metrics.csv")
        for share in (0.5, 0.0)
    )
    assert (warm["kl"] > cold["kl"])[:3].all()
    assert warm["train_loss"][0] < warm["recon_loss"][0] + warm["kl"][0]


def resumed_to_the_same_bytes(config: RunConfig, tmp_path: Path) -> Outcome:
    """Return the outcome of an undisturbed run, and check that interrupted and resumed ones leave the same bytes."""
    whole = run(config, Execution(results_dir=tmp_path / "whole"))
    for after in (1, 3):
        results_dir = tmp_path / str(after)
        with pytest.raises(KeyboardInterrupt):
            run(config, Execution(results_dir=results_dir), Interrupt(after))
        resumed = run(config, Execution(results_dir=results_dir))
        assert contents(resumed.path) == contents(whole.path)
        assert (resumed.path / "model.safetensors").read_bytes() == (whole.path / "model.safetensors").read_bytes()
    return whole


def test_a_run_with_a_warmup_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    resumed_to_the_same_bytes(tiny(warmup=0.5, rule="robust", patience=1, epochs=6), tmp_path)


@pytest.mark.parametrize("start", [3, 40])
def test_a_run_that_consolidates_resumes_to_the_same_bytes_and_tells_two_numbers(tmp_path: Path, start: int) -> None:
    """From 3 it grows at once; from 40 it shrinks."""
    config = resolve(
        "adaptive",
        "digits",
        protocol="recommended",
        init_dim=start,
        epochs=24,
        lr=0.005,
        fid_samples=50,
        silhouette_samples=50,
    )
    outcome = resumed_to_the_same_bytes(config, tmp_path)
    directions = pd.read_csv(outcome.path / "directions.csv")
    sizes = pd.read_csv(outcome.path / "metrics.csv").groupby("epoch")["latent_dim"].first()
    assert directions.groupby("epoch").size().to_dict() == sizes[:22].to_dict()
    assert (sizes.max() > 3) if start == 3 else (sizes[24] < 40)
    assert "consolidate" in set(pd.read_csv(outcome.path / "decisions.csv")["action"])
    assert 0 <= outcome.summary["n_informative"] <= outcome.summary["latent_dim"]


AUTHORS: dict[str, Any] = {"protocol": "authors", "silhouette_samples": 50, "fid_samples": 50}


@pytest.mark.parametrize("after", [4, 6, 8, 10])
def test_a_run_with_the_robust_rule_resumes_even_in_the_middle_of_a_trial(tmp_path: Path, after: int) -> None:
    """The posterior uses all dimensions, so the rule removes on trial; a trial lasts two epochs."""
    settings: dict[str, Any] = {"limit": 300, "hidden_dim": 32, "fid_samples": 80, "silhouette_samples": 80}
    settings |= {"posterior": "softmax", "patience": 2, "epochs": 14, "init_dim": 24}
    config = resolve("adaptive", "digits", rule="robust", **settings)
    whole = run(config, Execution(results_dir=tmp_path / "whole"))
    actions = set(pd.read_csv(whole.path / "decisions.csv")["action"])
    assert "remove" in actions
    execution = Execution(results_dir=tmp_path / "resumed")
    with pytest.raises(KeyboardInterrupt):
        run(config, execution, Interrupt(after))
    assert contents(run(config, execution).path) == contents(whole.path)


def test_the_final_metrics_are_those_of_the_final_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule stops at the last epoch, after its metrics, and removes neurons with the stop."""

    def stop_at_the_end(rule: RobustRule, state: Any, epoch: int, latent_dim: int, *_: Any) -> Any:
        last = epoch == rule.epochs
        return state, Decision(epoch, latent_dim, remove=4 if last else 0, stop=last)

    monkeypatch.setattr(RobustRule, "adapt", stop_at_the_end)
    settings: dict[str, Any] = {
        "limit": 300,
        "hidden_dim": 32,
        "fid_samples": 80,
        "silhouette_samples": 80,
        "epochs": 3,
    }
    outcome = run(
        resolve("adaptive", "digits", rule="robust", init_dim=12, **settings), Execution(results_dir=tmp_path)
    )
    final, rows = outcome.summary["final"], pd.read_csv(outcome.path / "metrics.csv")
    assert list(rows["latent_dim"]) == [12, 12, 12]
    assert (final["latent_dim"], outcome.summary["latent_dim"], final["epoch"]) == (8, 8, 3)
    assert isinstance(final["active_units"], int)
    assert final["active_units"] <= 8
    assert final["recon_loss"] != rows["recon_loss"].iloc[-1]
    assert final["train_loss"] == rows["train_loss"].iloc[-1]


def test_a_run_with_the_authors_protocol_resumes_and_saves_its_model(tmp_path: Path) -> None:
    config = tiny(**AUTHORS)
    whole = resumed_to_the_same_bytes(config, tmp_path)
    assert whole.summary["rule"] == "authors"
    model = aldvae.load(whole.path)
    _, log_var = model.encode(to_float(digits(200).validation.x))
    torch.testing.assert_close(torch.exp(0.5 * log_var).sum(1), torch.ones(len(log_var)))
    assert log_var.shape[1] == whole.summary["latent_dim"] == 4


OPTIMAL: dict[str, Any] = {"likelihood": "gaussian", "scale": "optimal"}


def test_a_run_with_the_optimal_scale_resumes_and_saves_its_model(tmp_path: Path) -> None:
    config = tiny(**OPTIMAL, fid_features="none", precision="bfloat16")
    whole = resumed_to_the_same_bytes(config, tmp_path)
    model = aldvae.load(whole.path)
    assert isinstance(model.likelihood, OptimalGaussian)
    assert {buffer.dtype for buffer in model.buffers()} == {torch.float32}
    evaluator = Evaluator(config, digits(200).validation, None, tmp_path, torch.device("cpu"))
    recon_loss = evaluator.evaluate(model, 6).metrics["recon_loss"]
    assert pd.read_csv(whole.path / "metrics.csv")["recon_loss"].iloc[-1] == pytest.approx(recon_loss, rel=1e-5)


def test_the_average_of_the_optimal_scale_spans_an_epoch_or_a_hundred_steps() -> None:
    data = digits(200)
    for batch_size, span in ((64, 3), (1, 100)):
        trainer = Trainer(tiny(**OPTIMAL, batch_size=batch_size), data, torch.device("cpu"))
        assert isinstance(trainer.model.likelihood, OptimalGaussian)
        assert trainer.model.likelihood.span == span


def test_a_new_setting_at_its_default_leaves_the_model_file(tmp_path: Path) -> None:
    settings = {"likelihood": "gaussian", "epochs": 1, "fid_features": "none"}
    for overrides in ({}, {"scale": "optimal"}):
        path = run(tiny(**settings, **overrides), Execution(results_dir=tmp_path)).path / "model.safetensors"
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["aldvae"])
        names = ["shape", "latent_dim", "network", "hidden_dim", "channels", "likelihood", *overrides, "posterior"]
        assert list(header) == names


def test_the_authors_protocol_needs_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(200, 6)))
    execution = Execution(results_dir=tmp_path / "runs", own_data=tmp_path / "x.npy")
    settings = {**AUTHORS, "clusters": 3, "validation": 0.4}
    config = resolve("adaptive", str(tmp_path / "x.npy"), execution, **settings)
    with pytest.raises(ConfigError, match="--silhouette-groups classes needs labels"):
        run(config, execution)
    assert not execution.results_dir.exists()


REAL: dict[str, dict[str, Any]] = {
    "mnist": {"limit": 6000},
    "fashionmnist": {"limit": 6000},
    "eurosat": {"limit": 1000, "validation": 0.3, "epochs": 4},
    "sprites": {"limit": 40, "validation": 0.4, "channels": 4, "epochs": 4},
}


@pytest.mark.parametrize(
    "name", ["mnist", "fashionmnist", *(pytest.param(n, marks=pytest.mark.slow) for n in ("eurosat", "sprites"))]
)
def test_real_data_are_learned_while_the_model_shrinks(data_dir: Path, tmp_path: Path, name: str) -> None:
    settings: dict[str, Any] = {
        "epochs": 3,
        "fid_features": "pca",
        "patience": 2,
        "fid_samples": 16,
        "silhouette_samples": 16,
    }
    outcome = run(
        resolve("adaptive", name, **(settings | REAL[name])), Execution(results_dir=tmp_path, data_dir=data_dir)
    )
    metrics = pd.read_csv(outcome.path / "metrics.csv")
    assert metrics["recon_loss"].is_monotonic_decreasing
    assert metrics["latent_dim"].tolist() == [100, 100, 95, 95][: len(metrics)]


@pytest.mark.parametrize(("network", "shape"), [("mlp", (1, 8, 8)), ("conv", (3, 16, 16)), ("video", (3, 4, 8, 8))])
def test_every_network_shrinks_from_a_hundred_to_two(tmp_path: Path, network: str, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).integers(0, 256, (60, *shape[1:], shape[0]), dtype=np.uint8)
    np.save(tmp_path / "x.npy", x)
    settings: dict[str, Any] = {
        "epochs": 12,
        "rule": "paper",
        "patience": 1,
        "step": 9,
        "validation": 0.4,
        "fid_samples": 20,
        "silhouette_samples": 20,
    }
    settings |= {"clusters": 3, "network": network, "init_dim": 100} | ({"channels": 8} if network == "video" else {})
    execution = Execution(results_dir=tmp_path, own_data=tmp_path / "x.npy")
    config = resolve("adaptive", str(tmp_path / "x.npy"), execution, slow_step=9, **settings)
    outcome = run(config, execution)
    assert outcome.summary["latent_dim"] == aldvae.load(outcome.path).latent_dim == 2


def test_bfloat16_changes_the_products_and_little_else() -> None:
    data, device = digits(400), torch.device("cpu")
    full, half = (Trainer(tiny(precision=name), data, device) for name in ("float32", "bfloat16"))
    losses = [[trainer.train_epoch(epoch) for epoch in (1, 2, 3)] for trainer in (full, half)]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.float32}
    with pytest.raises(ConfigError, match="--precision float16 is not known"):
        tiny(precision="float16")
