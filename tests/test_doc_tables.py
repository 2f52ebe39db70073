"""The tables in the pages agree with the committed CSV files."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_main: Callable[[list[str], Path], int] = runpy.run_path(str(ROOT / "docs" / "tables.py"))["main"]

CSV = """dataset,rule,settings,size_mean,paper_stop_epoch,fid_features
digits,robust,,12.333333,,None
digits,paper,beta 4,27,50,none
mnist,robust,beta 4,0.000123456,50,none
"""
EXPECTED = """| dataset | size_mean | paper_stop_epoch |
| --- | --- | --- |
| digits | 12.33 |  |
| mnist | 0.0001235 | 50 |
"""
BLOCK = "results/a/tables/sizes.csv columns=dataset,size_mean,paper_stop_epoch where=rule=robust"


def page(root: Path, block: str = BLOCK, table: str = "") -> Path:
    """Create a project of one CSV file and one page with one table block; return the page."""
    csv = root / "results" / "a" / "tables" / "sizes.csv"
    csv.parent.mkdir(parents=True, exist_ok=True)
    csv.write_text(CSV)
    path = root / "docs" / "sizes.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"# Sizes\n\n<!-- table {block} -->\n{table}<!-- /table -->\n\nAnd so on.\n")
    return path


def test_all_tables_in_the_pages_agree_with_their_csv() -> None:
    assert _main([], ROOT) == 0


def test_a_written_table_passes_the_check(tmp_path: Path) -> None:
    path = page(tmp_path)
    assert _main(["--check"], tmp_path) == 1
    assert _main(["--write"], tmp_path) == 0
    assert path.read_text() == f"# Sizes\n\n<!-- table {BLOCK} -->\n{EXPECTED}<!-- /table -->\n\nAnd so on.\n"
    assert _main(["--check"], tmp_path) == 0


@pytest.mark.parametrize(("old", "new"), [("12.33", "12.34"), ("| mnist | 0.0001235 | 50 |\n", ""), ("mnist", "mnits")])
def test_a_changed_table_is_reported_with_its_page_and_block(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str
) -> None:
    page(tmp_path, table=EXPECTED.replace(old, new))
    assert _main([], tmp_path) == 1
    assert capsys.readouterr().err == f"docs/sizes.md: table {BLOCK}: not what the CSV says\n"


def test_a_changed_csv_is_detected(tmp_path: Path) -> None:
    page(tmp_path, table=EXPECTED)
    assert _main([], tmp_path) == 0
    csv = tmp_path / "results" / "a" / "tables" / "sizes.csv"
    csv.write_text(CSV.replace("12.333333", "13.333333"))
    assert _main([], tmp_path) == 1


def test_filters_combine_and_may_contain_spaces(tmp_path: Path) -> None:
    path = page(tmp_path, "results/a/tables/sizes.csv where=dataset=digits 'where=settings=beta 4' columns=rule")
    assert _main(["--write"], tmp_path) == 0
    assert "| rule |\n| --- |\n| paper |\n<!--" in path.read_text()


def test_the_text_none_is_not_an_empty_cell(tmp_path: Path) -> None:
    path = page(tmp_path, "results/a/tables/sizes.csv columns=fid_features where=fid_features=None")
    assert _main(["--write"], tmp_path) == 0
    assert "| None |\n" in path.read_text()


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("results/b.csv", "results/b.csv is not there"),
        ("results/a/tables/sizes.csv columns=size", "there is no column size"),
        ("results/a/tables/sizes.csv where=size=3", "there is no column size"),
        ("results/a/tables/sizes.csv where=rule=authors", "no row is left"),
        ("results/a/tables/sizes.csv rule=robust", "rule=robust is not columns=A,B or where=COLUMN=TEXT"),
    ],
)
@pytest.mark.parametrize("mode", ["--check", "--write"])
def test_an_invalid_block_is_an_error_and_the_page_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], block: str, message: str, mode: str
) -> None:
    path = page(tmp_path, block)
    before = path.read_text()
    assert _main([mode], tmp_path) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"docs/sizes.md: table {block}: ")
    assert message in error
    assert path.read_text() == before


def test_a_block_that_is_not_closed_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = page(tmp_path, table=EXPECTED)
    path.write_text(path.read_text().replace("<!-- /table -->", ""))
    assert _main([], tmp_path) == 1
    assert "the block is not closed" in capsys.readouterr().err


def test_text_that_only_mentions_a_block_stays(tmp_path: Path) -> None:
    path = page(tmp_path, table=EXPECTED)
    path.write_text(path.read_text() + "Write `<!-- table x.csv -->` above it.\n")
    assert _main([], tmp_path) == 0
