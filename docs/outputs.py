"""Check the outputs and pictures of commands in Markdown pages, or write them again.

A block in a page starts and ends with a mark, each on a line of its own. It shows what a command prints::

    <!-- output aldvae show results/digits -->
    (a fenced block)
    <!-- /output -->

Bash runs the command, so it may have pipes and patterns. A `python` without arguments runs the block of Python above.

A mark alone says which file, left by the commands of this page or an earlier one, is the picture of the page::

    <!-- picture images/overview.png from runs/*/overview.png -->

All commands run in one empty directory, which links to the project's docs/, experiments/ and results/.

    python docs/outputs.py            # fails and names page and block if a command fails or prints something else
    python docs/outputs.py --write    # writes the outputs into the pages, and the pictures
    python docs/outputs.py integrations.md    # checks one page; this one needs libraries of its own

Numbers may differ between machines, so a check compares words. The order of the pages is that of their names, with the
first page of the site first.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
# The pages whose outputs need the libraries of `make test-integrations`.
INTEGRATIONS = ("integrations.md",)
_BLOCK = re.compile(r"^<!-- output (?P<command>.*) -->\n(?P<text>.*?)^<!-- /output -->$", re.MULTILINE | re.DOTALL)
_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PICTURE = re.compile(r"^<!-- picture (?P<picture>\S+) from (?P<pattern>\S+) -->$", re.MULTILINE)


class OutputError(Exception):
    """A command that failed, or a picture that no command left."""


def pages(root: Path, names: list[str]) -> list[Path]:
    """Return the pages that are named; without names, those whose commands need this project alone."""
    if names:
        return [root / "docs" / name for name in names]
    found = [page for page in root.glob("docs/*.md") if page.name not in INTEGRATIONS]
    return sorted(found, key=lambda page: (page.name != "index.md", page.name))


def run(command: str, folder: Path, script: str) -> str:
    """Return what a command prints, as the fenced block of a page; `script` is its standard input."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"COLUMNS": "110", "PATH": path, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    start = ["bash", "-o", "pipefail", "-c", command]
    done = subprocess.run(start, cwd=folder, env=environment, input=script, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OutputError(f"{command}: {done.stderr.strip()}")
    lines = [line.rstrip() for line in done.stdout.strip("\n").splitlines()]
    return "\n".join(["```text", *lines, "```", ""])


def words(text: str) -> set[str]:
    """Return the words of an output: numbers, and with them hashes, depend on the machine."""
    return set(re.findall(r"\b[A-Za-z_]{3,}\b", text))


def renew(page: Path, folder: Path, write: bool) -> Iterator[str]:
    """Yield the problems of a page; with `write`, correct outputs and pictures that differ instead."""

    def block(match: re.Match[str]) -> str:
        script = (_PYTHON.findall(text, 0, match.start()) or [""])[-1]
        return f"<!-- output {match['command']} -->\n{run(match['command'], folder, script)}<!-- /output -->"

    text = page.read_text()
    new = _BLOCK.sub(block, text)
    for before, after in zip(_BLOCK.finditer(text), _BLOCK.finditer(new), strict=True):
        if words(before["text"]) != words(after["text"]) and not write:
            yield f"output {before['command']}: not what the command prints"
    if write:
        page.write_text(new)
    for mark in _PICTURE.finditer(text):
        found = sorted(folder.glob(mark["pattern"]))
        if not found:
            raise OutputError(f"picture {mark['picture']}: no command left {mark['pattern']}")
        if write:
            shutil.copyfile(found[0], page.parent / mark["picture"])
        elif not (page.parent / mark["picture"]).is_file():
            yield f"picture {mark['picture']}: not there"


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Check or write all pages; return the exit code."""
    parser = argparse.ArgumentParser(description="Check the outputs of commands in the pages.")
    parser.add_argument("--write", action="store_true", help="write the outputs and pictures again")
    parser.add_argument(
        "pages", nargs="*", metavar="PAGE", help=f"pages in docs/; by default all but {', '.join(INTEGRATIONS)}"
    )
    choices = parser.parse_args(arguments)
    problems = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for linked in ("docs", "experiments", "results"):
            (folder / linked).symlink_to(root / linked)
        for page in pages(root, choices.pages):
            try:
                problems += [f"{page.relative_to(root)}: {problem}" for problem in renew(page, folder, choices.write)]
            except OutputError as error:
                problems.append(f"{page.relative_to(root)}: {error}")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
