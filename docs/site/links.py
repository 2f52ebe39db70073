"""Where the files of the project are in the documentation site, and links rewritten to lead there.

The pages in docs/ link to each other and to files beside docs/ as Git hosts expect it, relative to the page. The site
has the same pages, some files from outside docs/ as pages, and copies of the others.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

# Pages from outside docs/, and their places in the site. The first page of the site stands for the README.
OUTSIDE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "speed.md",
    "results/README.md": "results.md",
}
_ALIASES = OUTSIDE | {"README.md": "index.md"}
# Sources are shown as pages, since browsers would offer to save them.
_LANGUAGES = {".py": "python", ".toml": "toml"}
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|#)(?P<target>[^)\s]+)\)")


def project_path(page: str) -> str:
    """Return the path in the project of a page of the site."""
    for path, place in OUTSIDE.items():
        if place == page:
            return path
    return f"docs/{page}"


def place(path: str, root: Path) -> str | None:
    """Return where a file of the project is in the site; None for a folder without a page."""
    if (root / path).is_dir():
        return _ALIASES.get(f"{path}/README.md")
    if path in _ALIASES:
        return _ALIASES[path]
    if Path(path).suffix in _LANGUAGES:
        return f"sources/{path}.md"
    inside = path.removeprefix("docs/")
    return f"files/{path}" if inside == path else re.sub(r"\.ipynb$", ".md", inside)


def targets(text: str, path: str) -> Iterator[str]:
    """Yield the files and folders of the project that a page, which is at `path` in the project, links to."""
    for link in _LINK.finditer(text):
        yield _resolve(link["target"].partition("#")[0], path)


def rewrite(text: str, path: str, root: Path) -> str:
    """Return a page with links that lead to places in the site; a link to a folder without a page becomes text."""
    own = place(path, root)
    assert own is not None

    def renewed(link: re.Match[str]) -> str:
        name, mark, anchor = link["target"].partition("#")
        there = place(_resolve(name, path), root)
        # The text of a link may be an image with a link of its own.
        shown = rewrite(link["text"], path, root)
        if there is None:
            return shown
        relative = posixpath.relpath(there, posixpath.dirname(own) or ".")
        return f"{link['image']}[{shown}]({relative}{mark}{anchor})"

    return _LINK.sub(renewed, text)


def source_page(path: str, root: Path) -> str | None:
    """Return a page that shows a source file; None if the file is no source."""
    language = _LANGUAGES.get(Path(path).suffix)
    if language is None:
        return None
    text = (root / path).read_text()
    return f"---\nsearch:\n  exclude: true\n---\n\n# `{path}`\n\n~~~~ {language}\n{text.rstrip()}\n~~~~\n"


def _resolve(target: str, path: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
