"""Check the tables in Markdown pages against the CSV files they were made from, or write them again.

A block in a page starts and ends with a mark, each on a line of its own::

    <!-- table results/digits/tables/sizes.csv columns=dataset,rule,size_mean where=rule=robust -->
    (the table)
    <!-- /table -->

It holds the rows of that CSV, whose path is relative to the root of the project. `columns` chooses and orders columns;
the default is all of them. Each `where=COLUMN=TEXT` keeps the rows in which the column has that text; quote texts with
spaces as in a shell: `'where=settings=beta 4'`. Numbers are rounded to four significant digits.

    python docs/tables.py            # fails and names page and block if a table differs from its CSV
    python docs/tables.py --write    # writes the tables of the CSVs into the pages

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

from aldvae.analysis.tables import cell_text, markdown

ROOT = Path(__file__).parents[1]
FOLDERS = ("docs", "benchmarks", "experiments", "results")
_MARK = re.compile(r"<!-- (?:table (?P<arguments>.*)|/table) -->")


class BlockError(Exception):
    """A block whose table cannot be made, or that is not closed."""


def pages(root: Path) -> list[Path]:
    """Return the Markdown pages of the project."""
    return sorted([*root.glob("*.md"), *(path for folder in FOLDERS for path in root.glob(f"{folder}/**/*.md"))])


def table(arguments: str, root: Path) -> str:
    """Return the Markdown table for the `arguments` in the first mark of a block: a CSV and options."""
    name, *options = shlex.split(arguments)
    path = root / name
    if not path.is_file():
        raise BlockError(f"{name} is not there")
    # Only an empty cell is a missing value; a text such as "None" stays a text.
    rows = pd.read_csv(path, keep_default_na=False, na_values=[""])
    columns = list(rows.columns)
    for option in options:
        match option.split("=", 2):
            case ["columns", names]:
                columns = [_existing(column, rows) for column in names.split(",")]
            case ["where", column, text]:
                rows = rows[[cell_text(value) == text for value in rows[_existing(column, rows)]]]
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


def pieces_of(text: str, root: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the pieces of a page: arguments (empty outside blocks), current text, expected text."""
    arguments = None
    current: list[str] = []
    for line in text.splitlines(keepends=True):
        mark = _MARK.fullmatch(line.strip())
        if mark is None:
            current.append(line)
            continue
        if (arguments is None) == (mark["arguments"] is None):
            raise BlockError(f"{line.strip()}: a block is not closed, or not opened")
        before = "".join(current)
        yield arguments or "", before, before if arguments is None else _renewed_block(arguments, root)
        yield "", line, line
        arguments, current = mark["arguments"], []
    if arguments is not None:
        raise BlockError(f"table {arguments}: the block is not closed")
    yield "", "".join(current), "".join(current)


def _renewed_block(arguments: str, root: Path) -> str:
    try:
        return table(arguments, root)
    except BlockError as error:
        raise BlockError(f"table {arguments}: {error}") from error


def renew(page: Path, root: Path, write: bool) -> list[str]:
    """Return the problems of a page; with `write`, correct tables that differ instead of reporting them."""
    try:
        pieces = list(pieces_of(page.read_text(), root))
    except BlockError as error:
        return [str(error)]
    differ = [
        f"table {arguments}: not what the CSV says" for arguments, current, expected in pieces if current != expected
    ]
    if differ and write:
        page.write_text("".join(expected for _, _, expected in pieces))
        return []
    return differ


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Check or write all pages; return the exit code."""
    parser = argparse.ArgumentParser(description="Check the tables in the pages against their CSV files.")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="fail where a table differs (the default)")
    mode.add_argument("--write", action="store_true", help="write the tables again")
    write = parser.parse_args(arguments).write
    problems = [f"{page.relative_to(root)}: {problem}" for page in pages(root) for problem in renew(page, root, write)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
