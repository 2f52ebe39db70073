"""No option without effect: each setting changes what a run leaves, or is refused by its name.

A new setting that stands in no table here fails.
"""

from __future__ import annotations

import ast
import inspect
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import load_file

from aldvae.config.execution import Execution, Schedule
from aldvae.config.options import flag, option_fields
from aldvae.config.resolve import own_data
from aldvae.config.run_config import SECTIONS
from aldvae.data.catalogue import dataset_table
from aldvae.sweeps.jobs import Job, JobList
from aldvae.sweeps.runner import describe_sweep
from aldvae.training.inputs import InputCache
from aldvae.training.loop import run
from aldvae.utils.errors import ConfigError
from tests.conftest import resolve

PACKAGE = Path(__file__).parents[1] / "aldvae"

# Eight epochs with four decisions; the third slows down, none stops.
BASE: dict[str, Any] = {
    "dataset": "digits",
    "limit": 200,
    "epochs": 8,
    "patience": 2,
    "window": 4,
    "slow_window": 3,
    "step": 2,
    "hidden_dim": 16,
    "init_dim": 14,
    "fid_features": "pca",
    "fid_samples": 50,
    "silhouette_samples": 50,
}
# The same, but it stops at the first decision it can, at epoch 4.
METRICS = ("recon_loss", "silhouette", "fid_recon", "fid_gen")
STOPS = {f"threshold_{metric}": -math.inf for metric in METRICS}
# Pictures of our own, made by `pictures`: only these have another size, or are large enough for convolutions.
ARRAY = {"dataset": "own.npz", "limit": None, "rule": "paper", "epochs": 2, "validation": 0.5}
ARRAY |= {"fid_samples": 20, "silhouette_samples": 20}
FOLDER = {**ARRAY, "dataset": "folder", "resize": 8}
CONV = {**ARRAY, "network": "conv", "channels": 4}


class Case(NamedTuple):
    """Two runs that must differ: `option` as `value`, and without it, both with what is `given`."""

    option: str
    value: Any
    given: Mapping[str, Any] = {}


CASES = [
    Case("dataset", "own.npz", {**ARRAY, "dataset": "digits", "clusters": 10}),
    Case("limit", 190),
    Case("validation", 0.4),
    Case("resize", 10, FOLDER),
    Case("clusters", 5),
    Case("network", "conv", ARRAY),
    Case("hidden_dim", 24),
    Case("channels", 8, CONV),
    Case("likelihood", "gaussian"),
    Case("posterior", "softmax"),
    Case("init_dim", 13),
    Case("beta", 2.0),
    Case("epochs", 7),
    Case("batch_size", 32),
    Case("lr", 2e-3),
    Case("shuffle", False),
    Case("precision", "bfloat16"),
    Case("seed", 1),
    Case("rule", "authors", STOPS),
    Case("rule", "robust", dict.fromkeys(("window", "slow_window", "step"))),
    Case("select", "kl"),
    Case("select", "last"),
    Case("patience", 4),
    Case("window", 6, STOPS),
    Case("slow_window", 8),
    Case("slow_down", "means", {"slow_window": 2}),
    Case("stopping", "slow", STOPS),
    Case("step", 3),
    Case("slow_step", 2),
    Case("min_dim", 12),
    Case("shrunk_layers", "frozen"),
    Case("stop", False, STOPS),
    *(Case(f"threshold_{metric}", math.inf, STOPS) for metric in METRICS),
    Case("fid_features", "none"),
    Case("fid_samples", 40),
    Case("silhouette_samples", 40),
    Case("silhouette_on", "means"),
    Case("silhouette_groups", "classes"),
    Case("metrics_every", 2, {"slow_window": 4}),
]
# Values that are refused, and where; among them an option that a run here cannot show to work.
REFUSED = [
    Case("dataset", "mnits"),
    Case("resize", 10),
    Case("channels", 8),
    Case("network", "conv"),
    Case("fid_precision", "bfloat16"),
    Case("window", 3, {"rule": "robust", "slow_window": None, "step": None}),
    *(Case(f"threshold_{metric}", 1.0, {"fid_features": "none"}) for metric in METRICS if metric.startswith("fid_")),
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder and an array of our own pictures, 16 pixels a side, in two classes."""
    root = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    x = random.integers(0, 255, (80, 16, 16), dtype=np.uint8)
    np.savez(root / "own.npz", x=x, labels=np.arange(80) % 2)
    for number, picture in enumerate(x):
        folder = root / "folder" / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{number}.png")
    return root


CACHE = InputCache()
_left: dict[str, tuple[Any, ...]] = {}


def left(pictures: Path, changes: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a run leaves: its metrics, decisions and weights, without the columns that only repeat settings."""
    given = {**BASE, **changes}
    dataset = given.pop("dataset")
    place = dataset if dataset in ("digits", "mnits") else str(pictures / dataset)
    config = resolve("adaptive", place, **given)
    if config.name not in _left:
        execution = Execution(results_dir=pictures / "runs", own_data=own_data(place), cache_dir=pictures / "cache")
        path = run(config, execution, cache=CACHE).path
        metrics = pd.read_csv(path / "metrics.csv").drop(columns=["fid_features", "fid_samples"])
        # Reasons name thresholds and windows: they differ where nothing was decided otherwise.
        decisions = pd.read_csv(path / "decisions.csv").drop(columns="reason")
        weights = {name: tensor.numpy().tobytes() for name, tensor in load_file(path / "model.safetensors").items()}
        _left[config.name] = (metrics.to_csv(), decisions.to_csv(), weights)
    return _left[config.name]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.option}={case.value}")
def test_an_option_changes_what_a_run_leaves(pictures: Path, case: Case) -> None:
    assert left(pictures, case.given) != left(pictures, {**case.given, case.option: case.value})


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case.option}={case.value}")
def test_a_value_without_effect_is_refused_by_name(pictures: Path, case: Case) -> None:
    with pytest.raises(ConfigError, match=flag(case.option)):
        left(pictures, {**case.given, case.option: case.value})


def test_no_setting_of_a_run_is_forgotten() -> None:
    assert {case.option for case in (*CASES, *REFUSED)} == {setting.name for setting in option_fields(*SECTIONS)}


def executed(tmp_path: Path, **settings: Any) -> Path:
    """The directory of a run of two epochs, executed as `settings` say."""
    given = {name: value for name, value in BASE.items() if name != "dataset"} | {"epochs": 2}
    return run(resolve("adaptive", "digits", **given), Execution(**{"results_dir": tmp_path, **settings})).path


def test_data_dir_is_where_datasets_are_looked_for(tmp_path: Path) -> None:
    assert f"{tmp_path / 'nowhere'} does not exist" in dataset_table(tmp_path / "nowhere", tmp_path, {})


def test_execution_settings_change_where_and_how(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    path = executed(tmp_path, results_dir=tmp_path / "a", cache_dir=tmp_path / "b", tensorboard=True, threads=2)
    assert path.parent == tmp_path / "a"
    assert list((tmp_path / "b").rglob("*.*"))
    assert list(path.glob("events.out.tfevents.*"))
    assert json.loads((path / "provenance.json").read_text())["sessions"][0]["threads"] == 2


@pytest.mark.parametrize("plan", [None, "digits.toml"])
def test_provenance_names_the_plan_of_a_run(tmp_path: Path, plan: str | None) -> None:
    path = executed(tmp_path, results_dir=tmp_path, plan=plan)
    assert json.loads((path / "provenance.json").read_text())["sessions"][0].get("plan") == plan


@pytest.mark.parametrize(("option", "value"), [("inception_weights", Path("w.pth")), ("device", "abacus")])
def test_what_execution_cannot_do_is_refused_by_name(tmp_path: Path, option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=flag(option)):
        executed(tmp_path, **{option: value})


@pytest.mark.parametrize(
    ("option", "value"),
    [("jobs", 999), ("executor", "slurm"), ("ray_address", "auto"), ("population", "0"), ("gpus_per_run", 0.5)],
)
def test_what_a_schedule_cannot_do_is_refused_by_name(tmp_path: Path, option: str, value: Any) -> None:
    runs = JobList([Job(resolve("adaptive", "digits"))])
    with pytest.raises(ConfigError, match=flag(option)):
        describe_sweep(runs, Execution(results_dir=tmp_path), Schedule(**{option: value}))


@pytest.mark.parametrize("declared", [Execution, Schedule])
def test_every_setting_of_execution_is_read_where_runs_are_executed(declared: type[Execution | Schedule]) -> None:
    name = declared.__name__.lower()
    read = set()
    for path in PACKAGE.rglob("*.py"):
        read |= _attributes(ast.parse(path.read_text()), name)
    # A property or method that is used stands for what it reads.
    used = {member for member in read if member not in declared.__dataclass_fields__ and hasattr(declared, member)}
    for function in ast.walk(ast.parse(inspect.getsource(declared))):
        if isinstance(function, ast.FunctionDef) and function.name in used:
            read |= _attributes(function, "self")
    assert {setting.name for setting in option_fields(declared)} - read == set()


def _attributes(tree: ast.AST, owner: str) -> set[str]:
    """The attributes that are read of whatever is called `owner`."""
    reads = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)]
    return {node.attr for node in reads if _last_name(node.value) == owner}


def _last_name(node: ast.expr) -> str | None:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None
