"""docs/architecture.md lists the folders of the package and what they import; the code must agree with it."""

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
# Files beside the folders: the public names, `python -m aldvae`, and the marker of a typed package.
OTHER_FILES = {"__init__.py", "__main__.py", "py.typed"}
MOST_FOLDERS = 13


class Folder(NamedTuple):
    name: str
    imports: set[str]


def listed_folders() -> list[Folder]:
    """Return the folders that the page lists, from the top down."""
    table = PAGE.split("<!-- folders -->")[1].split("<!-- /folders -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()[2:]]
    return [Folder(name.strip("`/"), set(re.findall(r"`(\w+)`", targets))) for name, _, targets in rows]


FOLDERS = listed_folders()


def modules() -> dict[str, Path]:
    """Return the path of every module of the package by its dotted name."""
    paths = sorted((ROOT / "aldvae").rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def folder_of(module: str) -> str:
    """Return the folder of a module; for `aldvae` and `aldvae.__main__`, their own names."""
    return (*module.split("."), module)[1]


def imported(path: Path, paths: dict[str, Path]) -> Iterator[str]:
    """Yield every module that a file imports, also inside functions and for types alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in paths else str(node.module) for name in names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def imports() -> dict[str, set[str]]:
    """Return the modules of the package that each module imports, except `aldvae` itself, which holds the version."""
    paths = modules()
    return {
        module: {name for name in imported(path, paths) if name.startswith("aldvae.")} for module, path in paths.items()
    }


def arrows() -> dict[tuple[str, str], set[str]]:
    """Return the imports between folders: (importing folder, imported folder) -> the modules concerned."""
    found: dict[tuple[str, str], set[str]] = {}
    for module, targets in imports().items():
        for target in targets:
            arrow = (folder_of(module), folder_of(target))
            if len(set(arrow)) == 2 and module not in ("aldvae", "aldvae.__main__"):
                found.setdefault(arrow, set()).add(f"{module} -> {target}")
    return found


def test_every_module_lies_in_a_folder_of_the_page() -> None:
    actual = {path.name for path in (ROOT / "aldvae").iterdir() if path.name != "__pycache__"}
    assert actual - OTHER_FILES == {folder.name for folder in FOLDERS}
    assert len(FOLDERS) <= MOST_FOLDERS


def test_the_folders_import_what_the_page_says_and_nothing_else() -> None:
    listed = {(folder.name, target) for folder in FOLDERS for target in folder.imports}
    actual = arrows()
    assert listed - set(actual) == set(), "the page lists imports that do not exist"
    assert {arrow: actual[arrow] for arrow in set(actual) - listed} == {}, "the page does not list these imports"


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
        ("integrations", {"compression", "utils"}),
        ("models", {"utils"}),
        ("data", {"utils"}),
        ("reporting", {"analysis", "runs", "config", "compression", "metrics", "utils"}),
    ],
)
def test_a_folder_imports_at_most_what_the_design_allows(folder: str, allowed: set[str]) -> None:
    """These limits are part of the design: editing the page must not move them."""
    assert {target for source, target in arrows() if source == folder} <= allowed


def test_every_name_on_the_page_exists() -> None:
    source = "\n".join(path.read_text() for path in modules().values())
    for name in set(re.findall(r"`(?:\w+\.)*(\w+)`", PAGE.split("## The life")[1])):
        exists = re.search(rf"\b(class|def) {name}\b", source) or name in {folder.name for folder in FOLDERS}
        assert exists, name
