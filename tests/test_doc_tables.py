"""The tables in the pages are what the committed CSV files give."""

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
WANTED = """| dataset | size_mean | paper_stop_epoch |
| --- | --- | --- |
| digits | 12.33 |  |
| mnist | 0.0001235 | 50 |
"""
BLOCK = "results/a/tables/sizes.csv columns=dataset,size_mean,paper_stop_epoch where=rule=robust"


def page(root: Path, words: str = BLOCK, table: str = "") -> Path:
    """A project with one CSV and one page with one block."""
    csv = root / "results" / "a" / "tables" / "sizes.csv"
    csv.parent.mkdir(parents=True, exist_ok=True)
    csv.write_text(CSV)
    path = root / "docs" / "sizes.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"# Sizes\n\n<!-- table {words} -->\n{table}<!-- /table -->\n\nAnd so on.\n")
    return path


def test_all_tables_of_the_pages_are_what_their_csv_says() -> None:
    assert _main([], ROOT) == 0


def test_writes_what_it_then_finds_right(tmp_path: Path) -> None:
    path = page(tmp_path)
    assert _main(["--check"], tmp_path) == 1
    assert _main(["--write"], tmp_path) == 0
    assert path.read_text() == f"# Sizes\n\n<!-- table {BLOCK} -->\n{WANTED}<!-- /table -->\n\nAnd so on.\n"
    assert _main(["--check"], tmp_path) == 0


@pytest.mark.parametrize(("old", "new"), [("12.33", "12.34"), ("| mnist | 0.0001235 | 50 |\n", ""), ("mnist", "mnits")])
def test_a_change_is_named_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str
) -> None:
    page(tmp_path, table=WANTED.replace(old, new))
    assert _main([], tmp_path) == 1
    assert capsys.readouterr().err == f"docs/sizes.md: table {BLOCK}: not what the CSV says\n"


def test_a_changed_csv_is_seen(tmp_path: Path) -> None:
    page(tmp_path, table=WANTED)
    assert _main([], tmp_path) == 0
    csv = tmp_path / "results" / "a" / "tables" / "sizes.csv"
    csv.write_text(CSV.replace("12.333333", "13.333333"))
    assert _main([], tmp_path) == 1


def test_filters_are_joined_and_may_hold_spaces(tmp_path: Path) -> None:
    path = page(tmp_path, "results/a/tables/sizes.csv where=dataset=digits 'where=settings=beta 4' columns=rule")
    assert _main(["--write"], tmp_path) == 0
    assert "| rule |\n| --- |\n| paper |\n<!--" in path.read_text()


def test_a_text_that_looks_like_nothing_stays(tmp_path: Path) -> None:
    path = page(tmp_path, "results/a/tables/sizes.csv columns=fid_features where=fid_features=None")
    assert _main(["--write"], tmp_path) == 0
    assert "| None |\n" in path.read_text()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("results/b.csv", "results/b.csv is not there"),
        ("results/a/tables/sizes.csv columns=size", "there is no column size"),
        ("results/a/tables/sizes.csv where=size=3", "there is no column size"),
        ("results/a/tables/sizes.csv where=rule=authors", "no row is left"),
        ("results/a/tables/sizes.csv rule=robust", "rule=robust is not columns=A,B or where=COLUMN=TEXT"),
    ],
)
@pytest.mark.parametrize("mode", ["--check", "--write"])
def test_what_cannot_be_made_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, named: str, mode: str
) -> None:
    path = page(tmp_path, words)
    before = path.read_text()
    assert _main([mode], tmp_path) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"docs/sizes.md: table {words}: ")
    assert named in error
    assert path.read_text() == before


def test_a_block_that_is_not_closed_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = page(tmp_path, table=WANTED)
    path.write_text(path.read_text().replace("<!-- /table -->", ""))
    assert _main([], tmp_path) == 1
    assert "the block is not closed" in capsys.readouterr().err


def test_text_that_only_speaks_of_blocks_is_left_alone(tmp_path: Path) -> None:
    path = page(tmp_path, table=WANTED)
    path.write_text(path.read_text() + "Write `<!-- table x.csv -->` above it.\n")
    assert _main([], tmp_path) == 0
