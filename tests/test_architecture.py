"""The page docs/architecture.md says which folders there are and what they import; the code does what it says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
# Beside the folders: the public names, `python -m aldvae`, and the sign that the package is typed.
BESIDE = {"__init__.py", "__main__.py", "py.typed"}
MOST_FOLDERS = 12


class Folder(NamedTuple):
    name: str
    imports: set[str]


def stated() -> list[Folder]:
    """The folders of the page, from the top down."""
    table = PAGE.split("<!-- folders -->")[1].split("<!-- /folders -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()[2:]]
    return [Folder(name.strip("`/"), set(re.findall(r"`(\w+)`", targets))) for name, _, targets in rows]


FOLDERS = stated()


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    paths = sorted((ROOT / "aldvae").rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def folder_of(module: str) -> str:
    """The folder of a module; for `aldvae` and `aldvae.__main__`, their own names."""
    return (*module.split("."), module)[1]


def imported(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """The modules of aldvae that a file imports, anywhere in it, also for its types alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in known else str(node.module) for name in inside)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def imports() -> dict[str, set[str]]:
    """What each module imports of the package, but for `aldvae` itself, which holds the version."""
    known = modules()
    return {
        module: {name for name in imported(path, known) if name.startswith("aldvae.")} for module, path in known.items()
    }


def arrows() -> dict[tuple[str, str], set[str]]:
    """The imports that there are from folder to folder, each with its places."""
    found: dict[tuple[str, str], set[str]] = {}
    for module, targets in imports().items():
        for target in targets:
            arrow = (folder_of(module), folder_of(target))
            if len(set(arrow)) == 2 and module not in ("aldvae", "aldvae.__main__"):
                found.setdefault(arrow, set()).add(f"{module} -> {target}")
    return found


def test_every_module_lies_in_a_folder_of_the_page() -> None:
    there = {path.name for path in (ROOT / "aldvae").iterdir() if path.name != "__pycache__"}
    assert there - BESIDE == {folder.name for folder in FOLDERS}
    assert len(FOLDERS) <= MOST_FOLDERS


def test_the_folders_import_what_the_page_says_and_nothing_else() -> None:
    told = {(folder.name, target) for folder in FOLDERS for target in folder.imports}
    there = arrows()
    assert told - set(there) == set(), "stated, but there is no such import"
    assert {arrow: there[arrow] for arrow in set(there) - told} == {}, "imports that the page does not state"


def test_arrows_point_down() -> None:
    order = [folder.name for folder in FOLDERS]
    assert {arrow: places for arrow, places in arrows().items() if order.index(arrow[0]) > order.index(arrow[1])} == {}


def test_no_files_import_each_other() -> None:
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as error:
        pytest.fail(f"a cycle of imports: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize(
    ("folder", "allowed"),
    [
        ("utils", set()),
        ("compression", {"utils"}),
        ("models", {"utils"}),
        ("data", {"utils"}),
        ("reporting", {"analysis", "runs", "config", "compression", "metrics", "utils"}),
    ],
)
def test_what_must_stay_apart_does(folder: str, allowed: set[str]) -> None:
    """Beyond what the page says: these boundaries are the design, and must not be moved by editing the page."""
    assert {target for source, target in arrows() if source == folder} <= allowed


def test_what_the_page_names_is_there() -> None:
    source = "\n".join(path.read_text() for path in modules().values())
    for name in set(re.findall(r"`(?:\w+\.)*(\w+)`", PAGE.split("## The life")[1])):
        there = re.search(rf"\b(class|def) {name}\b", source) or name in {folder.name for folder in FOLDERS}
        assert there, name
