"""`aldvae adaptive --answer-only` ends when the rule has an answer; the same command without it completes the run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aldvae.config.execution import Execution
from aldvae.config.run_config import RunConfig
from aldvae.runs.results import Result, read_result
from aldvae.training.loop import run
from tests.conftest import TINY, Cli, resolve

# A run of seconds on `linear.npy`, whose number of informative directions settles.
SETTLES: Mapping[str, Any] = {"epochs": 40, "hidden_dim": 32, "fid_features": "none", "init_dim": 8, "curve": False}
# Runs of seconds whose rule has no answer, and stops at once: no slope is below its threshold.
OPEN: Mapping[str, Any] = {**TINY, "fid_samples": 500, "fid_features": "none"}
STOPS: Mapping[str, Any] = {**OPEN, "threshold_recon_loss": -math.inf, "threshold_silhouette": -math.inf, "window": 3}
TABLES = ("metrics", "latent", "decisions", "directions")


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    """A table (600, 12) of 3 factors."""
    random = np.random.default_rng(0)
    x = random.normal(size=(600, 3)) @ random.normal(size=(3, 12)) + 0.1 * random.normal(size=(600, 12))
    np.save(tmp_path / "linear.npy", x)
    return tmp_path / "linear.npy"


def options(settings: Mapping[str, Any]) -> list[str]:
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items() if not isinstance(value, bool)]
    return [*flags, *(f"--no-{name}" for name, value in settings.items() if value is False)]


def result_in(path: Path) -> Result:
    result = read_result(path)
    assert result is not None
    return result


def execute(config: RunConfig, results_dir: Path, answer_only: bool = False) -> Any:
    return run(config, Execution(results_dir=results_dir, answer_only=answer_only))


def test_ends_when_the_number_has_settled_and_goes_on_to_the_same_bytes(cli: Cli, linear: Path, tmp_path: Path) -> None:
    command = ("adaptive", f"--dataset={linear}", *options(SETTLES))
    answer = cli(*command, "--answer-only")
    assert answer.returncode == 0, answer.stderr
    (sentence,) = answer.stdout.splitlines()
    assert sentence.startswith("Latent size ")
    assert "this had settled at epoch " in sentence
    (path,) = (tmp_path / "runs").iterdir()
    unfinished = result_in(path)
    assert (unfinished.state, unfinished.epochs < 40) == ("unfinished", True)
    assert f"left unfinished at epoch {unfinished.epochs} of 40" in answer.stderr
    assert "at most 0:0" in answer.stderr
    assert not [*path.glob("*.png"), *path.glob("*.html"), *path.glob("*.safetensors")]

    # The answer is known now: nothing is trained for it.
    before = (path / "metrics.csv").read_bytes()
    assert cli(*command, "--answer-only").stdout == answer.stdout
    assert (path / "metrics.csv").read_bytes() == before

    config = resolve("adaptive", str(linear), protocol="recommended", **SETTLES)
    resumed, whole = (
        run(config, Execution(results_dir=tmp_path / name, own_data=linear)) for name in ("runs", "undisturbed")
    )
    assert resumed.path == path
    for table in TABLES:
        assert (path / f"{table}.csv").read_bytes() == (whole.path / f"{table}.csv").read_bytes()
    assert resumed.summary["final"] == whole.summary["final"]

    finished = cli(*command, "--answer-only")
    assert finished.stdout.startswith("Latent size ")
    assert "finished before" in finished.stderr
    assert not (path / "report.html").exists()


def test_ends_where_a_rule_that_counts_nothing_stops(tmp_path: Path) -> None:
    config = resolve("adaptive", "digits", **STOPS)
    outcome = execute(config, tmp_path, answer_only=True)
    assert outcome.epoch == outcome.summary["stop_epoch"] < config.training.epochs
    assert outcome.summary["stop_latent_dim"] == outcome.summary["latent_dim"]
    assert not (outcome.path / "summary.json").exists()
    finished = execute(config, tmp_path)
    assert (finished.epoch, finished.skipped) == (None, False)
    assert finished.summary["stop_epoch"] == outcome.epoch


def test_a_rule_without_an_answer_trains_to_the_end_and_the_whole_run_then_needs_no_epoch(
    cli: Cli, tmp_path: Path
) -> None:
    command = ("adaptive", "--protocol=paper", *options(OPEN))
    answer = cli(*command, "--answer-only")
    assert answer.stdout.startswith("No size found: rule paper, from 14, did not stop within 6 epochs")
    (path,) = (tmp_path / "runs").iterdir()
    assert result_in(path).state == "unfinished"
    seconds = (path / "times.csv").read_bytes()
    assert cli(*command).stdout.splitlines()[0] == answer.stdout.strip()
    assert (path / "times.csv").read_bytes() == seconds
    assert json.loads((path / "summary.json").read_text())["epochs"] == 6

    # The answer is printed before the figures are drawn, which fails without rows.
    (path / "overview.png").unlink()
    (path / "metrics.csv").write_text("")
    damaged = cli(*command)
    assert damaged.returncode == 2
    assert damaged.stdout == answer.stdout


def test_it_is_no_setting_of_the_run(linear: Path, tmp_path: Path) -> None:
    config = resolve("adaptive", str(linear), protocol="recommended", **SETTLES)
    outcome = run(config, Execution(results_dir=tmp_path, own_data=linear, answer_only=True))
    assert outcome.path.name == config.name
    assert "answer_only" not in (outcome.path / "config.json").read_text()
    assert len(pd.read_csv(outcome.path / "metrics.csv")) == outcome.epoch
