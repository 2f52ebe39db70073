"""`aldvae.find_size`: the recommended protocol from Python."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import aldvae
from aldvae.cli.find_size import _array, _named

ROOT = Path(__file__).parents[1]
# Of 60 samples, 18 are held out.
QUICK: dict[str, Any] = {"epochs": 10, "validation": 0.3, "fid_samples": 15, "silhouette_samples": 15, "hidden_dim": 8}


def vectors(n: int = 60, d: int = 6) -> np.ndarray:
    random = np.random.default_rng(0)
    return random.normal(size=(n, 2)) @ random.normal(size=(2, d)) + 0.1 * random.normal(size=(n, d))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> aldvae.FoundSize:
    return aldvae.find_size(vectors(), results_dir=tmp_path_factory.mktemp("runs"), clusters=2, progress=False, **QUICK)


def test_what_was_found_holds_model_tables_figure_and_report(found: aldvae.FoundSize) -> None:
    assert found.model.latent_dim == found.size
    assert found.n_informative is not None
    assert 0 <= found.n_informative <= 6
    assert found.tables["metrics"]["latent_dim"].iloc[0] == 6
    assert {"metrics", "latent", "decisions", "directions", "times"} <= set(found.tables)
    assert found.figure.axes
    assert found.report.read_text().startswith("<!doctype html>")
    assert found.report.parent == found.path
    assert "this holds for a Gaussian likelihood and beta 1." in str(found)
    assert "this holds for a Gaussian likelihood and beta 1." in found._repr_html_()
    assert found.settled == (found.result.answer["settled_epoch"] is not None)


def test_the_same_call_returns_the_finished_run(found: aldvae.FoundSize) -> None:
    model = (found.path / "model.safetensors").stat().st_mtime_ns
    again = aldvae.find_size(vectors(), results_dir=found.path.parent, clusters=2, progress=False, **QUICK)
    assert again.path == found.path
    assert (again.path / "model.safetensors").stat().st_mtime_ns == model


def test_without_a_directory_a_new_one_is_made_and_lines_tell_the_progress(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    labels = torch.arange(60) % 3
    found = aldvae.find_size(torch.from_numpy(vectors()), labels=labels, **QUICK)
    assert found.path.parent.parent == tmp_path
    assert found.result.config.data.clusters == 3
    assert "cluster_accuracy" in found.tables["metrics"]
    assert "epoch 10/10" in capsys.readouterr().err


def test_tables_and_paths_are_taken_as_on_the_command_line(tmp_path: Path) -> None:
    frame = pd.DataFrame(vectors()[:, :4], columns=["age", "height", "2020", "2021"])
    settings: dict[str, Any] = {**QUICK, "epochs": 2, "clusters": 2, "curve": False, "progress": False}
    found = aldvae.find_size(frame, results_dir=tmp_path, **settings)
    stored = tmp_path / "data.csv"
    assert pd.read_csv(stored).columns.to_list() == ["age", "height", "column 2020", "column 2021"]
    assert found.model.encode(torch.zeros(1, 4))[0].shape == (1, found.size)
    path = aldvae.find_size(stored, results_dir=tmp_path, **settings)
    assert path.path == found.path


def test_a_data_frame_keeps_its_columns_beside_labels(tmp_path: Path) -> None:
    frame = pd.DataFrame(vectors()[:, :3], columns=["age", "height", "weight"], index=range(100, 160))
    labels = frame.index.to_series() % 2
    found = aldvae.find_size(frame, labels=labels, results_dir=tmp_path, curve=False, progress=False, **QUICK)
    assert found.result.config.data.clusters == 2
    stored = pd.read_csv(tmp_path / "data.csv")
    assert stored.columns.to_list() == ["age", "height", "weight", "labels"]
    assert stored["labels"].to_list() == labels.to_list()


def test_channels_of_tensors_may_come_second() -> None:
    assert _array(torch.zeros(5, 3, 8, 9)).shape == (5, 8, 9, 3)
    assert _array(torch.zeros(5, 8, 9, 3)).shape == (5, 8, 9, 3)
    assert _array(torch.zeros(5, 3, 2, 8, 9)).shape == (5, 2, 8, 9, 3)
    assert _array(torch.zeros(5, 3)).shape == (5, 3)
    assert _array(torch.zeros(5, 2, dtype=torch.bfloat16)).dtype == np.float32
    assert _named(pd.DataFrame(np.zeros((2, 2)))).columns.to_list() == ["column 0", "column 1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "epochs must be 1 or more, not 0"),
        ({"epoks": 3}, "did you mean epochs"),
        ({"beta": "high"}, 'beta is "high", not of type float'),
        ({"device": "cuda:99"}, "device cuda:99 is not available"),
        ({"data": np.full((60, 3), np.nan)}, "data .* holds NaN"),
        ({"data": pd.DataFrame({"name": ["a", "b"]}), "labels": [0, 1]}, "data .*text in column name: drop it with"),
        ({"data": pd.DataFrame({"labels": [0, 1], "a": [1, 2]}), "labels": [0, 1]}, "labels are given twice"),
        ({"data": pd.DataFrame({"a": [1, 2]}), "labels": [0]}, "labels must be 2, one for each row of data, not 1"),
        ({"data": np.array([["a", "b"]], dtype=object)}, "data holds other things than numbers"),
        ({"data": "nowhere.csv"}, "data nowhere.csv does not exist"),
        ({"data": "digits", "labels": [1]}, "labels are for data in memory"),
        ({"labels": [1, 2]}, "data .*labels must be 60 whole numbers"),
    ],
)
def test_errors_name_the_argument(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(aldvae.ArgumentError, match=message):
        aldvae.find_size(**{"data": vectors(), "results_dir": tmp_path, "clusters": 2, **QUICK, **arguments})


def test_the_example_in_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL)
    small = partial(aldvae.find_size, results_dir=tmp_path, limit=200, progress=False, **{**QUICK, "validation": 0.2})
    monkeypatch.setattr(aldvae, "find_size", small)
    exec(block, names := {"__name__": "page"})
    found = names["found"]
    assert isinstance(found, aldvae.FoundSize)
    assert "cluster_accuracy" in found.tables["metrics"]
    assert capsys.readouterr().out == f"{found}\n"


def test_the_package_imports_nothing_heavy_for_it() -> None:
    code = "import sys, aldvae; assert not {'torch', 'pandas', 'matplotlib', 'typer'} & set(sys.modules); "
    code += "assert callable(aldvae.find_size)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
