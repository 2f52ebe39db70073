"""A notebook as a page: its text and its code, without running it."""

from __future__ import annotations

import json
from pathlib import Path


def notebook_page(path: Path) -> str:
    """Return the page in Markdown, with a link to the notebook file beside it."""
    cells = json.loads(path.read_text())["cells"]
    title, *rest = [_cell(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    download = f'<a href="../{path.name}" download>Download this notebook</a>.'
    return "\n\n".join([title, download, *rest]) + "\n"


def _cell(kind: str, source: str) -> str:
    return source if kind == "markdown" else f"```python\n{source}\n```"
