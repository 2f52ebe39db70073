"""`--precision auto` measures a training step of the run's own model, and a run goes on with what it has chosen."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from aldvae.config.execution import Execution
from aldvae.config.run_config import RunConfig
from aldvae.runs.results import read_result
from aldvae.sweeps.stacking import stack_key
from aldvae.training import loop
from aldvae.training.callbacks import Callback, Row
from aldvae.training.loop import Outcome, run
from aldvae.training.precision import StepTimes, measure_steps
from aldvae.training.trainer import Trainer
from tests.conftest import TINY, Cli, digits, resolve

SLOW, FAST = StepTimes(float32=0.010, bfloat16=0.009), StepTimes(float32=0.010, bfloat16=0.005)
Choose = Callable[[StepTimes], list[StepTimes]]


def tiny(**changes: Any) -> RunConfig:
    return resolve("adaptive", "digits", **{**TINY, "fid_samples": 500, "fid_features": "none", **changes})


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Choose:
    """Return a function that lets this machine be one with these times; it returns what was measured since."""

    def be(times: StepTimes) -> list[StepTimes]:
        measured: list[StepTimes] = []

        def measure(*_: object) -> StepTimes:
            measured.append(times)
            return times

        monkeypatch.setattr(loop, "measure_steps", measure)
        return measured

    return be


class Interrupt(Callback):
    """Ends a run after its second epoch."""

    def on_epoch_end(self, epoch: int, row: Row, step: object) -> None:  # noqa: ARG002
        if epoch == 2:
            raise KeyboardInterrupt


def execute(config: RunConfig, results_dir: Path, callback: Callback | None = None) -> Outcome:
    return run(config, Execution(results_dir=results_dir), callback)


def sessions(path: Path) -> list[dict[str, Any]]:
    stored: list[dict[str, Any]] = json.loads((path / "provenance.json").read_text())["sessions"]
    return stored


def test_bfloat16_must_be_clearly_faster() -> None:
    assert (SLOW.precision, FAST.precision) == ("float32", "bfloat16")
    assert replace(FAST, bfloat16=0.5).precision == "float32"
    assert str(FAST) == (
        "--precision auto: bfloat16, since a training step takes 5 ms in bfloat16 and 10 ms in float32"
    )


def test_measuring_leaves_the_run_alone() -> None:
    config, data, device = tiny(precision="auto"), digits(200), torch.device("cpu")
    state = torch.get_rng_state()
    times = measure_steps(config, data, device)
    assert min(times.float32, times.bfloat16) > 0
    assert torch.equal(torch.get_rng_state(), state)
    before, after = Trainer(config, data, device), Trainer(config, data, device)
    measure_steps(config, data, device)
    before.precision = after.precision = "float32"
    assert before.train_epoch(1) == after.train_epoch(1)


@pytest.mark.parametrize("times", [SLOW, FAST])
def test_the_run_equals_one_with_the_chosen_precision_and_records_it(
    tmp_path: Path, machine: Choose, times: StepTimes
) -> None:
    measured = machine(times)
    named = execute(tiny(precision=times.precision), tmp_path / "named")
    assert measured == []
    chosen = execute(tiny(precision="auto"), tmp_path / "chosen")
    assert measured == [times]
    for table in ("metrics", "latent", "decisions"):
        assert (chosen.path / f"{table}.csv").read_bytes() == (named.path / f"{table}.csv").read_bytes()
    assert chosen.summary["precision"] == sessions(chosen.path)[0]["precision"] == times.precision
    assert "precision" not in named.summary
    assert "precision" not in sessions(named.path)[0]
    result = read_result(chosen.path)
    assert result is not None
    assert result.config.training.precision == "auto"


def test_a_resumed_run_goes_on_with_its_precision_on_another_machine(tmp_path: Path, machine: Choose) -> None:
    machine(FAST)
    config = tiny(precision="auto", curve=True, rule="consolidate", epochs=12, patience=None)
    whole = execute(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        execute(config, tmp_path / "parts", Interrupt())
    measured = machine(SLOW)
    resumed = execute(config, tmp_path / "parts")
    assert measured == []
    assert resumed.summary["precision"] == "bfloat16"
    assert [session["precision"] for session in sessions(resumed.path)] == ["bfloat16", "bfloat16"]
    for table in ("metrics", "latent", "decisions", "curve"):
        assert (resumed.path / f"{table}.csv").read_bytes() == (whole.path / f"{table}.csv").read_bytes()


def test_a_checkpoint_without_a_precision_has_that_of_its_settings() -> None:
    trainer = Trainer(tiny(precision="bfloat16"), digits(200), torch.device("cpu"))
    state = trainer.state_dict()
    del state["precision"]
    trainer.load_state_dict(state)
    assert trainer.precision == "bfloat16"


def test_runs_that_choose_are_not_stacked() -> None:
    assert stack_key(tiny()) is not None
    assert stack_key(tiny(precision="auto")) is None


def test_the_command_says_what_was_chosen(cli: Cli, tmp_path: Path) -> None:
    options = ("--limit=200", "--epochs=2", "--hidden-dim=16", "--fid-features=none", "--silhouette-samples=50")
    result = cli("adaptive", "--protocol=paper", *options, "--precision=auto")
    assert result.returncode == 0, result.stderr
    assert "aldvae: --precision auto: " in result.stderr
    (path,) = (tmp_path / "runs").iterdir()
    assert json.loads((path / "config.json").read_text())["settings"]["precision"] == "auto"
    assert json.loads((path / "summary.json").read_text())["precision"] in ("float32", "bfloat16")
