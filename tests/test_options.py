"""Every option has an effect: it changes the output of a run, or its value is refused with an error that names it.

A new setting that is neither in `CASES` nor in `REFUSED` fails a test.
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
METRICS = ("recon_loss", "silhouette", "fid_recon", "fid_gen")
# With these, the rule stops at its first possible decision, at epoch 4.
STOPS = {f"threshold_{metric}": -math.inf for metric in METRICS}
# Runs that resize or use convolutions need the data that the fixture `images` writes.
ARRAY = {"dataset": "own.npz", "limit": None, "rule": "paper", "epochs": 2, "validation": 0.5}
ARRAY |= {"fid_samples": 20, "silhouette_samples": 20}
FOLDER = {**ARRAY, "dataset": "folder", "resize": 8}
CONV = {**ARRAY, "network": "conv", "channels": 4}


class Case(NamedTuple):
    """Two runs whose output must differ: one sets `option` to `value`, the other does not; both use `overrides`."""

    option: str
    value: Any
    overrides: Mapping[str, Any] = {}


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
    Case("scale", "optimal", {"likelihood": "gaussian"}),
    Case("standardise", True, {"likelihood": "gaussian"}),
    Case("posterior", "softmax"),
    Case("init_dim", 13),
    Case("beta", 2.0),
    Case("epochs", 7),
    Case("batch_size", 32),
    Case("lr", 2e-3),
    Case("shuffle", False),
    Case("precision", "bfloat16"),
    Case("warmup", 0.5),
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
    Case("curve", True),
    Case("curve_epochs", 1, {"curve": True}),
    Case("favour", "loss", {"curve": True}),
    Case("keep_sizes", True, {"curve": True}),
    *(Case(f"threshold_{metric}", math.inf, STOPS) for metric in METRICS),
    Case("fid_features", "none"),
    Case("fid_samples", 40),
    Case("silhouette_samples", 40),
    Case("silhouette_on", "means"),
    Case("silhouette_groups", "classes"),
    Case("metrics_every", 2, {"slow_window": 4}),
]
# Values that are refused with these overrides. `fid_precision` is here because only Inception has it.
REFUSED = [
    Case("dataset", "mnits"),
    Case("resize", 10),
    Case("channels", 8),
    Case("network", "conv"),
    Case("scale", "optimal"),
    Case("standardise", True),
    Case("standardise", True, {**ARRAY, "dataset": "vectors.npy", "clusters": 2, "likelihood": "gaussian"}),
    Case("fid_precision", "bfloat16"),
    Case("window", 3, {"rule": "robust", "slow_window": None, "step": None}),
    *(Case(f"threshold_{metric}", 1.0, {"fid_features": "none"}) for metric in METRICS if metric.startswith("fid_")),
]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write random images of 16 x 16 pixels in two classes, as a folder and as an array; return their directory."""
    root = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    x = random.integers(0, 255, (80, 16, 16), dtype=np.uint8)
    np.savez(root / "own.npz", x=x, labels=np.arange(80) % 2)
    np.save(root / "vectors.npy", random.normal(size=(80, 20)))
    for number, image in enumerate(x):
        folder = root / "folder" / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    return root


CACHE = InputCache()
_outputs: dict[str, tuple[Any, ...]] = {}


def output_of(images: Path, changes: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the metrics, decisions, curve and weights of a run, without the columns that only repeat settings."""
    overrides = {**BASE, **changes}
    dataset = overrides.pop("dataset")
    source = dataset if dataset in ("digits", "mnits") else str(images / dataset)
    config = resolve("adaptive", source, **overrides)
    if config.name not in _outputs:
        execution = Execution(results_dir=images / "runs", own_data=own_data(source), cache_dir=images / "cache")
        path = run(config, execution, cache=CACHE).path
        metrics = pd.read_csv(path / "metrics.csv").drop(columns=["fid_features", "fid_samples"])
        # Reasons contain thresholds and windows, so they differ even between equal decisions.
        decisions = pd.read_csv(path / "decisions.csv").drop(columns="reason")
        curve = path / "curve.csv"
        sizes = sorted(file.name for file in path.glob("sizes/*")), curve.read_text() if curve.exists() else ""
        weights = {name: tensor.numpy().tobytes() for name, tensor in load_file(path / "model.safetensors").items()}
        _outputs[config.name] = (metrics.to_csv(), decisions.to_csv(), sizes, weights)
    return _outputs[config.name]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.option}={case.value}")
def test_an_option_changes_the_output_of_a_run(images: Path, case: Case) -> None:
    assert output_of(images, case.overrides) != output_of(images, {**case.overrides, case.option: case.value})


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case.option}={case.value}")
def test_a_value_without_effect_is_refused_by_name(images: Path, case: Case) -> None:
    with pytest.raises(ConfigError, match=flag(case.option)):
        output_of(images, {**case.overrides, case.option: case.value})


def test_every_setting_of_a_run_has_a_case() -> None:
    assert {case.option for case in (*CASES, *REFUSED)} == {setting.name for setting in option_fields(*SECTIONS)}


def execute(tmp_path: Path, **settings: Any) -> Path:
    """Execute a run of two epochs with `settings` of `Execution`; return its directory."""
    overrides = {name: value for name, value in BASE.items() if name != "dataset"} | {"epochs": 2}
    return run(resolve("adaptive", "digits", **overrides), Execution(**{"results_dir": tmp_path, **settings})).path


def test_datasets_are_looked_for_in_data_dir(tmp_path: Path) -> None:
    assert f"{tmp_path / 'nowhere'} does not exist" in dataset_table(tmp_path / "nowhere", tmp_path, {})


def test_settings_of_execution_have_an_effect(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    path = execute(tmp_path, results_dir=tmp_path / "a", cache_dir=tmp_path / "b", tensorboard=True, threads=2)
    assert path.parent == tmp_path / "a"
    assert list((tmp_path / "b").rglob("*.*"))
    assert list(path.glob("events.out.tfevents.*"))
    assert json.loads((path / "provenance.json").read_text())["sessions"][0]["threads"] == 2


@pytest.mark.parametrize("plan", [None, "digits.toml"])
def test_provenance_names_the_plan_of_a_run(tmp_path: Path, plan: str | None) -> None:
    path = execute(tmp_path, results_dir=tmp_path, plan=plan)
    assert json.loads((path / "provenance.json").read_text())["sessions"][0].get("plan") == plan


@pytest.mark.parametrize(("option", "value"), [("inception_weights", Path("w.pth")), ("device", "abacus")])
def test_an_invalid_setting_of_execution_is_refused_by_name(tmp_path: Path, option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=flag(option)):
        execute(tmp_path, **{option: value})


@pytest.mark.parametrize(
    ("option", "value"),
    [("jobs", 999), ("executor", "slurm"), ("ray_address", "auto"), ("population", "0"), ("gpus_per_run", 0.5)],
)
def test_an_invalid_setting_of_a_schedule_is_refused_by_name(tmp_path: Path, option: str, value: Any) -> None:
    jobs = JobList([Job(resolve("adaptive", "digits"))])
    with pytest.raises(ConfigError, match=flag(option)):
        describe_sweep(jobs, Execution(results_dir=tmp_path), Schedule(**{option: value}))


@pytest.mark.parametrize("cls", [Execution, Schedule])
def test_every_setting_of_execution_is_read_in_the_package(cls: type[Execution | Schedule]) -> None:
    name = cls.__name__.lower()
    read = set()
    for path in PACKAGE.rglob("*.py"):
        read |= _attributes(ast.parse(path.read_text()), name)
    # A property or method that is used counts as reading the settings in its body.
    used = {member for member in read if member not in cls.__dataclass_fields__ and hasattr(cls, member)}
    for function in ast.walk(ast.parse(inspect.getsource(cls))):
        if isinstance(function, ast.FunctionDef) and function.name in used:
            read |= _attributes(function, "self")
    assert {setting.name for setting in option_fields(cls)} - read == set()


def _attributes(tree: ast.AST, owner: str) -> set[str]:
    """Return the attributes that are read from variables and attributes called `owner`."""
    reads = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)]
    return {node.attr for node in reads if _last_name(node.value) == owner}


def _last_name(node: ast.expr) -> str | None:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None
