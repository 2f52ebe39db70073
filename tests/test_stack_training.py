from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from aldvae.compression.steps import Step
from aldvae.config.execution import Execution
from aldvae.config.run_config import RunConfig
from aldvae.runs.directory import RunDirectory
from aldvae.sweeps.stacking import stack_key
from aldvae.training.callbacks import Callback, Row
from aldvae.training.inputs import InputCache
from aldvae.training.loop import Member, Outcome, Run, run, run_stack
from aldvae.training.stacked import train_stack
from aldvae.training.trainer import Trainer
from tests.conftest import digits, resolve

TINY: dict[str, Any] = {
    "limit": 200,
    "epochs": 6,
    "hidden_dim": 16,
    "fid_samples": 50,
    "silhouette_samples": 50,
}


class Interrupt(Callback):
    """Interrupts a run after an epoch."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_epoch_end(self, epoch: int, row: Row, step: Step | None) -> None:  # noqa: ARG002
        if epoch == self.after:
            raise KeyboardInterrupt


def members() -> list[RunConfig]:
    """Return adaptive and fixed runs with several sizes and seeds."""
    adaptive = [
        resolve("adaptive", "digits", **TINY, patience=2, init_dim=size, seed=seed)
        for size, seed in ((14, 0), (9, 1), (14, 2))
    ]
    return [*adaptive, resolve("fixed", "digits", **TINY, init_dim=4, seed=3)]


def execute(configs: list[RunConfig], results_dir: Path) -> list[Exception]:
    """Execute all runs as one stack; return the exceptions they raised."""
    execution = Execution(results_dir=results_dir, threads=1)
    stack = [Member(config, execution, Callback()) for config in configs]
    return [outcome for _, outcome in run_stack(stack, InputCache()) if isinstance(outcome, Exception)]


def test_every_member_ends_like_its_lone_run(tmp_path: Path) -> None:
    assert execute(members(), tmp_path / "stack") == []
    for config in members():
        lone = run(config, Execution(results_dir=tmp_path / "lone", threads=1))
        summary = RunDirectory(tmp_path / "stack", config).summary()
        assert summary["latent_dim"] == lone.summary["latent_dim"]
        ours, theirs = (pd.read_csv(tmp_path / place / config.name / "metrics.csv") for place in ("stack", "lone"))
        assert ours["latent_dim"].tolist() == theirs["latent_dim"].tolist()
        for column in ("train_loss", "recon_loss", "kl"):
            assert np.allclose(ours[column], theirs[column], rtol=1e-4), column
        decisions = [pd.read_csv(tmp_path / place / config.name / "decisions.csv") for place in ("stack", "lone")]
        assert decisions[0]["removed"].tolist() == decisions[1]["removed"].tolist() or decisions[0].empty


def test_a_stack_standardises_like_lone_runs() -> None:
    data, device = digits(200), torch.device("cpu")
    configs = [
        resolve("fixed", "digits", **TINY, init_dim=5, seed=seed, likelihood="gaussian", standardise=True)
        for seed in (0, 1)
    ]
    assert stack_key(configs[0]) == stack_key(configs[1]) != stack_key(configs[0].override(standardise=False))
    losses = train_stack([Trainer(config, data, device) for config in configs], 1)
    assert losses == pytest.approx([Trainer(config, data, device).train_epoch(1) for config in configs], rel=1e-4)


def test_a_stack_warms_up_like_lone_runs() -> None:
    data, device = digits(200), torch.device("cpu")
    configs = [resolve("adaptive", "digits", **TINY, warmup=0.5, init_dim=size, seed=size) for size in (6, 9)]
    alone, stacked = ([Trainer(config, data, device) for config in configs] for _ in range(2))
    for epoch in (1, 2):
        losses = [trainer.train_epoch(epoch) for trainer in alone]
        assert train_stack(stacked, epoch) == pytest.approx(losses, rel=1e-5)


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_one_epoch_equals_lone_epochs_in_weights_and_moments(network: str) -> None:
    data = digits(200)
    # The convolutions need images of at least twice the size.
    enlarged = replace(data.train, x=data.train.x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
    data = replace(data, train=enlarged)
    settings = {**TINY, "network": network, "hidden_dim": 16, "fid_features": "none"}
    configs = [resolve("adaptive", "digits", **settings, init_dim=size, seed=size, shuffle=size > 5) for size in (5, 8)]
    device = torch.device("cpu")
    lone, joint = ([Trainer(config, data, device) for config in configs] for _ in range(2))
    for epoch in (1, 2):
        expected = [trainer.train_epoch(epoch) for trainer in lone]
        assert train_stack(joint, epoch) == pytest.approx(expected, rel=1e-5)
    for ours, theirs in zip(joint, lone, strict=True):
        assert ours.model.latent_dim == theirs.model.latent_dim
        for (name, a), b in zip(ours.model.named_parameters(), theirs.model.parameters(), strict=True):
            assert torch.allclose(a, b, atol=2e-4), name
            for key, moment in theirs.optimizer.state[b].items():
                assert torch.allclose(ours.optimizer.state[a][key], moment, rtol=1e-3, atol=1e-2), (name, key)


def test_a_member_that_fails_does_not_affect_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = members()[1]
    healthy = Run.end_epoch

    def end_epoch(self: Run, train_loss: float, train_seconds: float) -> Outcome | None:
        loss = float("nan") if self.config == broken and self.epoch == 3 else train_loss
        return healthy(self, loss, train_seconds)

    monkeypatch.setattr(Run, "end_epoch", end_epoch)
    (failure,) = execute(members(), tmp_path)
    assert "epoch 3: train_loss is nan" in str(failure)
    finished = [RunDirectory(tmp_path, config).finished for config in members()]
    assert finished == [True, False, True, True]


def test_members_catch_up_with_one_that_resumes_at_a_later_epoch(tmp_path: Path) -> None:
    ahead = members()[0]
    with pytest.raises(KeyboardInterrupt):
        run(ahead, Execution(results_dir=tmp_path, threads=1), Interrupt(3))
    assert execute(members(), tmp_path) == []
    lone = run(ahead, Execution(results_dir=tmp_path / "lone", threads=1))
    assert RunDirectory(tmp_path, ahead).summary()["latent_dim"] == lone.summary["latent_dim"]
    metrics = pd.read_csv(tmp_path / ahead.name / "metrics.csv")
    assert metrics["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    assert np.allclose(metrics["train_loss"], pd.read_csv(lone.path / "metrics.csv")["train_loss"], rtol=1e-4)


def test_a_member_killed_between_its_last_epoch_and_its_summary_is_only_finished(tmp_path: Path) -> None:
    done = members()[0]
    with pytest.raises(KeyboardInterrupt):
        run(done, Execution(results_dir=tmp_path, threads=1), Interrupt(TINY["epochs"]))
    assert not RunDirectory(tmp_path, done).finished
    assert execute(members(), tmp_path) == []
    assert RunDirectory(tmp_path, done).finished
    lone = run(done, Execution(results_dir=tmp_path / "lone", threads=1))
    assert (tmp_path / done.name / "metrics.csv").read_bytes() == (lone.path / "metrics.csv").read_bytes()


def test_a_finished_member_with_a_damaged_summary_is_reported(tmp_path: Path) -> None:
    finished = run(members()[0], Execution(results_dir=tmp_path, threads=1))
    (finished.path / "summary.json").write_text("{}")
    (error,) = execute(members(), tmp_path)
    assert "summary.json is damaged" in str(error)


def test_a_lone_run_is_a_stack_of_one_to_the_byte(tmp_path: Path) -> None:
    config = members()[0]
    assert execute([config], tmp_path / "stack") == []
    lone = run(config, Execution(results_dir=tmp_path / "lone", threads=1))
    for name in ("metrics.csv", "latent.csv", "decisions.csv", "model.safetensors"):
        assert (tmp_path / "stack" / config.name / name).read_bytes() == (lone.path / name).read_bytes(), name


def test_an_error_of_the_training_itself_ends_the_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: object) -> list[float]:
        raise MemoryError("out of memory")

    monkeypatch.setattr("aldvae.training.loop.train_stack", out_of_memory)
    with pytest.raises(MemoryError, match="out of memory"):
        execute(members(), tmp_path)
    assert not any(RunDirectory(tmp_path, config).busy for config in members())


def test_members_share_one_copy_of_the_samples_on_a_device() -> None:
    data, device = digits(200), torch.device("meta")
    assert data.train.on(device) is data.train.on(device)
    assert data.train.on(device).device == device
    assert data.train.on(torch.device("cpu")) is data.train.x


def test_which_runs_can_be_trained_as_one_stack() -> None:
    config = resolve("adaptive", "digits", seed=0)
    assert stack_key(config) == stack_key(resolve("fixed", "digits", init_dim=4, seed=5))
    assert stack_key(config) != stack_key(resolve("adaptive", "digits", beta=4.0))
    assert stack_key(config) != stack_key(resolve("adaptive", "digits", limit=500))
    warm = resolve("adaptive", "digits", warmup=0.2, epochs=9)
    assert stack_key(warm) == stack_key(resolve("adaptive", "digits", warmup=0.2, epochs=9, seed=4))
    assert stack_key(warm) != stack_key(resolve("adaptive", "digits", warmup=0.2, epochs=8))
    assert stack_key(warm) != stack_key(resolve("adaptive", "digits", epochs=9))
    assert stack_key(resolve("adaptive", "sprites")) is None
    assert stack_key(resolve("adaptive", "digits", shuffle=False, rule="authors")) == stack_key(config)
    assert stack_key(resolve("adaptive", "digits", posterior="softmax")) is None
    assert stack_key(resolve("adaptive", "digits", likelihood="gaussian", scale="optimal")) is None
    assert stack_key(resolve("adaptive", "digits", likelihood="gaussian")) is not None
    assert stack_key(resolve("adaptive", "digits", rule="robust")) is None
    assert stack_key(resolve("adaptive", "digits", shrunk_layers="frozen")) is None
