"""Loggers and the export to Optuna, with the real packages and without a network."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from aldvae.config.execution import Execution
from aldvae.runs.results import read_result
from aldvae.training.callbacks import Callback
from aldvae.training.loop import run
from aldvae.utils.errors import ConfigError
from tests.conftest import TINY, Cli, resolve

ROOT = Path(__file__).parents[1]
SETTINGS: dict[str, Any] = {**TINY, "epochs": 4, "fid_features": "none"}


class KilledError(Exception):
    pass


class KillAfter(Callback):
    """Ends the run after an epoch, as a crash does."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_end(self, epoch: int, *_: Any) -> None:
        if epoch == self.epoch:
            raise KilledError


def train(results_dir: Path, seed: int = 0, kill_after: int = 0, **execution: Any) -> Path:
    config = resolve("adaptive", "digits", **SETTINGS, seed=seed)
    settings = Execution(results_dir=results_dir, **execution)
    if kill_after:
        with pytest.raises(KilledError):
            run(config, settings, KillAfter(kill_after))
    return run(config, settings).path


@pytest.mark.parametrize(("name", "module"), [("wandb", "wandb"), ("mlflow", "mlflow")])
def test_a_tracker_that_is_missing_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"aldvae.training.{name}", raising=False)
    with pytest.raises(ConfigError, match=rf"^--{name} needs .*; pip install 'aldvae\[{name}\]'"):
        train(tmp_path, **{name: True})


def test_optuna_that_is_missing_is_one_line(cli: Cli, tmp_path: Path) -> None:
    path = train(tmp_path / "runs")
    (tmp_path / "optuna.py").write_text("raise ImportError")
    result = cli("export", path.parent, "--optuna", "study.db", PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert result.returncode == 2
    assert result.stderr == "aldvae: --optuna needs Optuna; pip install 'aldvae[optuna]'\n"


@pytest.mark.filterwarnings("ignore")
def test_mlflow_holds_settings_metrics_images_and_answer_once_after_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "sizes")
    monkeypatch.chdir(tmp_path)
    path = train(tmp_path / "runs", kill_after=2, mlflow=True)
    client = MlflowClient()
    experiment = client.get_experiment_by_name("sizes")
    assert experiment is not None
    (logged,) = client.search_runs([experiment.experiment_id])
    assert logged.info.status == "FINISHED"
    assert logged.info.run_name == path.name
    assert logged.data.params["rule"] == "paper"
    rows = pd.read_csv(path / "metrics.csv")
    for name in ("recon_loss", "latent_dim", "silhouette"):
        history = client.get_metric_history(logged.info.run_id, name)
        assert [point.step for point in history] == [1, 2, 3, 4]
        assert [point.value for point in history] == pytest.approx(rows[name].tolist())
    assert logged.data.metrics["answer/latent_dim"] == json.loads((path / "summary.json").read_text())["latent_dim"]
    images = {file.path for file in client.list_artifacts(logged.info.run_id)}
    assert images == {"reconstructions.png", "samples.png", "traversal.png"}


def records(file: Path) -> bytes:
    """Return the content of a file of W&B without the 7 bytes before each of its blocks, which may divide a name."""
    content, block = file.read_bytes(), 32_768
    return b"".join(content[start + 7 : start + block] for start in range(0, len(content), block))


def test_wandb_writes_its_files_into_the_run_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    path = train(tmp_path, kill_after=2, wandb=True)
    sessions = sorted((path / "wandb").glob("offline-run-*"))
    assert len({session.name.rpartition("-")[2] for session in sessions}) == 1
    # W&B writes in a process of its own, which may be behind.
    wandb.teardown()
    written = b"".join(records(file) for file in (path / "wandb").rglob("*.wandb"))
    for text in (path.name, "recon_loss", "answer/latent_dim", "hidden_dim"):
        assert text.encode() in written, text
    images = {file.name.split("_")[0] for file in (path / "wandb").rglob("*.png")}
    assert images == {"reconstructions", "samples", "traversal"}


def test_runs_become_trials(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    from aldvae.reporting.optuna_study import export_to_optuna

    paths = [train(tmp_path / "runs", seed) for seed in (0, 1)]
    results = [result for path in paths if (result := read_result(path))]
    file = tmp_path / "out" / "study.db"
    assert export_to_optuna(results[:1], file) == (1, 0)
    assert export_to_optuna(results, file) == (1, 1)
    assert export_to_optuna(results, file) == (0, 2)

    study = optuna.load_study(storage=f"sqlite:///{file}", study_name="digits")
    assert [trial.params["seed"] for trial in study.trials] == [0, 1]
    for trial, result in zip(study.trials, results, strict=True):
        rows = pd.read_csv(result.path / "metrics.csv")
        losses = (rows["recon_loss"] + rows["kl"]).tolist()
        assert list(trial.intermediate_values) == [1, 2, 3, 4]
        assert list(trial.intermediate_values.values()) == pytest.approx(losses)
        final = result.answer["final"]
        assert trial.value == pytest.approx(float(final["recon_loss"] or 0) + float(final["kl"] or 0))
        expected = {"init_dim": 14, "dataset": "digits", "rule": "paper", "beta": 1.0}
        assert {name: trial.params[name] for name in expected} == expected
        assert trial.user_attrs["latent_dim"] == result.answer["latent_dim"]
    assert study.best_value == min(trial.value for trial in study.trials)


def test_the_command_exports_and_refuses_files_that_are_no_study(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    path = train(tmp_path / "runs")
    result = cli("export", "runs", "--optuna", "study.db")
    assert (result.returncode, result.stdout, result.stderr) == (0, "1 trials added to study.db\n", "")
    assert "1 runs were there already" in cli("export", path, "--optuna", "study.db").stderr
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "trackers.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["sizes"] == [json.loads((path / "summary.json").read_text())["latent_dim"]]
    (tmp_path / "text.db").write_text("no database" * 100)
    bad = cli("export", "runs", "--optuna", "text.db")
    assert bad.returncode == 2
    (line,) = bad.stderr.splitlines()
    assert line.startswith("aldvae: --optuna text.db cannot be used by Optuna")
    (tmp_path / "empty").mkdir()
    assert "empty holds no finished run" in cli("export", "empty", "--optuna", "x.db").stderr
