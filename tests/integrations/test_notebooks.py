"""The notebooks run from start to end, and their first cell installs what they need."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: make test-notebooks")
nbformat = pytest.importorskip("nbformat")

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
ANSWERS = {
    "compress-a-lightning-vae": r"(\d+) dimensions carry information; the model has (\d+)",
    "latent-size-in-five-minutes": r"(\d+) dimensions carry information.* The model keeps (\d+) of",
}


def texts(cell: dict[str, Any]) -> str:
    """Return what a cell of code printed."""
    return "".join(output.get("text", "") for output in cell.get("outputs", []))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_finds_a_size(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    # The first cell, which installs aldvae from PyPI, has the tag that nbclient skips.
    nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(texts(cell) for cell in notebook.cells)
    answer = re.search(ANSWERS[path.stem], printed)
    assert answer is not None, printed
    assert all(2 <= int(number) <= 12 for number in answer.groups())
    images = [output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in str(output)]
    assert images


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    code = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
