"""Check the tables in Markdown pages against the CSV files they were made from, or write them anew.

A block in a page, each of its two marks on a line of its own::

    <!-- table results/digits/tables/sizes.csv columns=dataset,rule,size_mean where=rule=robust -->
    (the table)
    <!-- /table -->

holds the rows of that CSV, named from the root of the project. `columns` chooses and orders columns; without it all are
there. Each `where=COLUMN=TEXT` keeps the rows in which the column is that text; texts with spaces are quoted, as in a
shell: `'where=settings=beta 4'`. Numbers are rounded to four significant digits.

    python docs/tables.py            # fails, naming page and block, where they differ
    python docs/tables.py --write    # puts what the CSVs say into the pages

Numbers in the text beside a block are not checked: keep them few, and look at them when a block changes.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from aldvae.analysis.tables import format_cell, markdown

ROOT = Path(__file__).parents[1]
FOLDERS = ("docs", "benchmarks", "experiments", "results")
_MARK = re.compile(r"<!-- (?:table (?P<words>.*)|/table) -->")


class BlockError(Exception):
    """A block that cannot be made, or is not closed."""


def pages(root: Path) -> list[Path]:
    """Return the Markdown pages of the project."""
    return sorted([*root.glob("*.md"), *(path for folder in FOLDERS for path in root.glob(f"{folder}/**/*.md"))])


def table(words: str, root: Path) -> str:
    """Return the table that the `words` of a block's first mark ask for."""
    name, *options = shlex.split(words)
    path = root / name
    if not path.is_file():
        raise BlockError(f"{name} is not there")
    # Texts such as "None" are texts; only an empty cell is nothing.
    rows = pd.read_csv(path, keep_default_na=False, na_values=[""])
    columns = list(rows.columns)
    for option in options:
        match option.split("=", 2):
            case ["columns", names]:
                columns = [_existing(column, rows) for column in names.split(",")]
            case ["where", column, text]:
                rows = rows[[format_cell(value) == text for value in rows[_existing(column, rows)]]]
            case _:
                raise BlockError(f"{option} is not columns=A,B or where=COLUMN=TEXT")
    if rows.empty:
        raise BlockError("no row is left")
    return markdown(rows[columns].map(_rounded).astype(object))


def _existing(column: str, rows: pd.DataFrame) -> str:
    if column not in rows.columns:
        raise BlockError(f"there is no column {column}; there are {', '.join(rows.columns)}")
    return column


def _rounded(value: object) -> object:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def renewed(text: str, root: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the pieces of a page: the words of a block, empty outside of one, what is there, and what should be."""
    words = None
    there: list[str] = []
    for line in text.splitlines(keepends=True):
        mark = _MARK.fullmatch(line.strip())
        if mark is None:
            there.append(line)
            continue
        if (words is None) == (mark["words"] is None):
            raise BlockError(f"{line.strip()}: a block is not closed, or not opened")
        before = "".join(there)
        yield words or "", before, before if words is None else _renewed_block(words, root)
        yield "", line, line
        words, there = mark["words"], []
    if words is not None:
        raise BlockError(f"table {words}: the block is not closed")
    yield "", "".join(there), "".join(there)


def _renewed_block(words: str, root: Path) -> str:
    try:
        return table(words, root)
    except BlockError as error:
        raise BlockError(f"table {words}: {error}") from error


def renew(page: Path, root: Path, write: bool) -> list[str]:
    """Return what is wrong with a page; with `write`, mend what differs instead."""
    try:
        pieces = list(renewed(page.read_text(), root))
    except BlockError as error:
        return [str(error)]
    differ = [f"table {words}: not what the CSV says" for words, there, wanted in pieces if there != wanted]
    if differ and write:
        page.write_text("".join(wanted for _, _, wanted in pieces))
        return []
    return differ


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Check or write all pages; return the exit code."""
    parser = argparse.ArgumentParser(description="Check the tables in the pages against their CSV files.")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="fail where a table differs (the default)")
    mode.add_argument("--write", action="store_true", help="write the tables anew")
    write = parser.parse_args(arguments).write
    problems = [f"{page.relative_to(root)}: {problem}" for page in pages(root) for problem in renew(page, root, write)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
