"""`Result` reads a run directory: typed tables of complete rows, even from damaged files."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import aldvae
from aldvae.config.execution import Execution
from aldvae.reporting.figures.run_overview import draw_overview
from aldvae.runs.records import COLUMNS, LATENT_SPACE, OPTIONAL_TABLES, csv_rows, csv_text, format_cell, parse_cell
from aldvae.runs.results import Result, read_result
from aldvae.training.loop import run
from aldvae.utils.errors import ConfigError
from tests.conftest import TINY, resolve

TABLES = {**COLUMNS, "latent_space": LATENT_SPACE}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = resolve("adaptive", "digits", **TINY)
    path = run(config, Execution(results_dir=tmp_path_factory.mktemp("results"))).path
    # Of the optional tables, this run has none.
    assert not any((path / f"{name}.csv").exists() for name in OPTIONAL_TABLES)
    curve = [
        [{"latent_dim": size, "epoch": 4, "kl": 1.5}.get(column, "") for column in COLUMNS["curve"]] for size in (4, 3)
    ]
    (path / "curve.csv").write_text(csv_text([COLUMNS["curve"], *curve]))
    (path / "directions.csv").write_text(csv_text([COLUMNS["directions"], [1, 0, 2.5, 2.5], [1, 1, 0.5, 0.25]]))
    rows = [[size, 6, *range(len(COLUMNS["curve"]) - 4), "pca", 50] for size in (3, 2)]
    (path / "curve.csv").write_text(csv_text([COLUMNS["curve"], *rows]))
    return path


@pytest.fixture
def path(finished: Path, tmp_path: Path) -> Path:
    """Return a copy of the run that a test may damage."""
    return shutil.copytree(finished, tmp_path / finished.name)


def read(path: Path) -> Result:
    result = read_result(path)
    assert result is not None
    return result


@pytest.mark.parametrize("name", TABLES)
def test_tables_equal_their_files(finished: Path, name: str) -> None:
    table = getattr(read(finished), name)
    assert tuple(table.columns) == TABLES[name]
    assert len(table) > 0
    text = {"action": str, "removed": str, "reason": str}
    pd.testing.assert_frame_equal(table, pd.read_csv(finished / f"{name}.csv", dtype=text))


def test_a_single_removed_neuron_is_text(path: Path) -> None:
    rows = [{"epoch": "2", "latent_dim": "9", "action": "remove", "removed": "5"}, {"epoch": "4", "action": "keep"}]
    cells = [[row.get(column, "") for column in COLUMNS["decisions"]] for row in rows]
    (path / "decisions.csv").write_text(csv_text([COLUMNS["decisions"], *cells]))
    assert read(path).decisions["removed"].fillna("").tolist() == ["5", ""]


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00\n", b"a,b\n1,2\n1,2,3\n", b"epoch,component_1\nx,y\n"])
def test_a_missing_or_damaged_table_has_no_rows_but_its_columns(path: Path, name: str, content: bytes | None) -> None:
    file = path / f"{name}.csv"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    table = getattr(read(path), name)
    assert table.empty
    assert tuple(table.columns) == TABLES[name]


def test_a_torn_last_line_is_dropped(path: Path) -> None:
    for name in ("metrics", "times"):
        with (path / f"{name}.csv").open("a") as file:
            file.write("7,12")
    result = read(path)
    assert result.metrics["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    assert result.epochs == 6
    assert result.seconds == pytest.approx(result.times[["train_seconds", "metrics_seconds"]].to_numpy().sum())


def test_a_column_that_an_older_version_did_not_write_is_empty(path: Path) -> None:
    pd.read_csv(path / "metrics.csv").drop(columns="nmi").to_csv(path / "metrics.csv", index=False)
    metrics = read(path).metrics
    assert tuple(metrics.columns) == COLUMNS["metrics"]
    assert metrics["nmi"].isna().all()


def test_a_run_with_fewer_rows_than_epochs_is_not_complete(path: Path) -> None:
    assert read(path).is_complete
    assert not replace(read(path), summary=None).is_complete
    lines = (path / "metrics.csv").read_text().splitlines(keepends=True)
    (path / "metrics.csv").write_text("".join(lines[:-1]))
    assert not read(path).is_complete


def test_seconds_are_counted_up_to_an_epoch(finished: Path) -> None:
    result = read(finished)
    first = result.times.iloc[0]
    assert result.seconds_until(1) == pytest.approx(first["train_seconds"] + first["metrics_seconds"])
    assert 0 < result.seconds_until(1) < result.seconds


def test_sessions_are_read_from_the_provenance(finished: Path) -> None:
    (session,) = read(finished).sessions
    assert session["first_epoch"] == 1
    assert "torch" in session["packages"]


@pytest.mark.parametrize("text", [None, "", "null", '{"sessions": [{}]}', '{"sessions": [1]}', '{"sessions": 1}'])
def test_a_missing_or_damaged_provenance_has_no_sessions(path: Path, text: str | None) -> None:
    (path / "provenance.json").unlink()
    if text is not None:
        (path / "provenance.json").write_text(text)
    assert read(path).sessions == []


def test_images_are_found_by_name(path: Path) -> None:
    assert read(path).image("samples") == path / "samples.png"
    (path / "samples.png").rename(path / "samples.gif")
    assert read(path).image("samples") == path / "samples.gif"
    assert read(path).image("unknown") is None


def test_the_overview_of_an_unfinished_run_is_refused(path: Path) -> None:
    (path / "summary.json").unlink()
    with pytest.raises(ConfigError, match="holds no finished run"):
        draw_overview(path)


@pytest.mark.parametrize("name", ["metrics", "latent"])
def test_the_overview_of_a_run_that_lost_a_table_is_refused(path: Path, name: str) -> None:
    (path / f"{name}.csv").unlink()
    with pytest.raises(ConfigError, match=r"lost metrics.csv or latent.csv; delete it"):
        draw_overview(path)


def test_cells_are_read_as_they_were_written() -> None:
    values = [3, 0.1234567891, "inception", "", float("inf"), 1e-9]
    cells = [parse_cell(format_cell(value)) for value in values]
    assert cells == [3, 0.12345679, "inception", None, float("inf"), 1e-9]


def test_rows_that_do_not_fit_their_header_are_cut_or_filled() -> None:
    assert csv_rows(csv_text([("a", "b"), (1,), (1, 2, 3)])) == [{"a": "1", "b": ""}, {"a": "1", "b": "2"}]


def test_the_reader_imports_without_pandas_and_torch() -> None:
    code = "import sys, aldvae.runs.results; assert not {'pandas', 'torch'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize("folder", ["analysis", "reporting"])
def test_no_other_folder_opens_the_files_of_a_run(folder: str) -> None:
    for path in (Path(aldvae.__file__).parent / folder).rglob("*.py"):
        assert not re.search(r"read_csv|read_text|json\.loads", path.read_text()), path
