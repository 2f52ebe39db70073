"""The page docs/architecture.md says what the imports are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
EVERYBODYS = "foundations"


class Layer(NamedTuple):
    name: str
    modules: list[str]
    imports: set[str]


def stated() -> list[Layer]:
    """The layers of the page, from the top down."""
    table = PAGE.split("<!-- layers -->")[1].split("<!-- /layers -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.split("\n\n")[1].splitlines()[2:]]
    return [Layer(name, re.findall(r"`(\w+)`", modules), set(_names(targets))) for name, modules, _, targets in rows]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


LAYERS = stated()
HOME = {module: layer.name for layer in LAYERS for module in layer.modules}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    paths = sorted((ROOT / "aldvae").rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def unit(module: str) -> str:
    """The name of a module on the page: packages within aldvae stand for all they hold."""
    return (*module.split("."), module)[1]


def imported(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """The modules of aldvae that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in known else str(node.module) for name in inside)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def arrows() -> dict[tuple[str, str], set[str]]:
    """The imports that there are from layer to layer, each with its places."""
    known = modules()
    found: dict[tuple[str, str], set[str]] = {}
    for module, path in known.items():
        # What aldvae itself holds, its version, belongs to no layer.
        for target in {name for name in imported(path, known) if name.startswith("aldvae.")}:
            layers = (HOME[unit(module)], HOME[unit(target)])
            if len(set(layers)) == 2 and EVERYBODYS not in layers[1:]:
                found.setdefault(layers, set()).add(f"{module} -> {target}")
    return found


def test_every_module_stands_in_one_layer() -> None:
    listed = [module for layer in LAYERS for module in layer.modules]
    assert sorted(listed) == sorted({unit(module) for module in modules()})


def test_the_layers_import_what_the_page_says_and_nothing_else() -> None:
    told = {(layer.name, target) for layer in LAYERS for target in layer.imports}
    there = arrows()
    assert told - set(there) == set(), "stated, but there is no such import"
    assert {places: there[places] for places in set(there) - told} == {}, "imports that the page does not state"


def test_arrows_point_down() -> None:
    order = [layer.name for layer in LAYERS]
    assert [(a, b) for a, b in arrows() if order.index(a) > order.index(b)] == []
    assert order[-1] == EVERYBODYS


def test_every_arrow_of_the_diagram_exists() -> None:
    diagram = PAGE.split("```mermaid")[1].split("```")[0]
    labels = dict(re.findall(r"(\w+)\[([\w ]+)\]", diagram))
    drawn = re.findall(r"^\s+(\w+)(?:\[[\w ]+\])? --> (\w+)$", diagram, re.MULTILINE)
    assert len(drawn) == diagram.count("-->")
    assert {(labels.get(a, a), labels.get(b, b)) for a, b in drawn} <= set(arrows())


@pytest.mark.parametrize(
    ("layer", "allowed"), [("compression", set()), ("data", set()), ("presenting", {"reading"}), (EVERYBODYS, set())]
)
def test_what_must_stay_apart_does(layer: str, allowed: set[str]) -> None:
    """Beyond what the page says: these boundaries are the design, and must not be moved by editing the page."""
    assert {target for source, target in arrows() if source == layer} <= allowed


def test_what_the_page_names_is_there() -> None:
    source = "\n".join(path.read_text() for path in modules().values())
    for name in set(re.findall(r"`(?:\w+\.)*(\w+)`", PAGE.split("## The life")[1])):
        assert re.search(rf"\b(class|def) {name}\b", source) or name in HOME, name
