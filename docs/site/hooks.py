"""What mkdocs does beside showing the pages in docs/: see `mkdocs.yml`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from links import OUTSIDE, place, project_path, rewrite, source_page, targets
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from notebooks import notebook_page
from options_page import options_page

ROOT = Path(__file__).parents[2]
# These name almost everything, so in a search they come after the pages that explain it.
LISTS = ("api.md", "changelog.md", "options.md")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside docs/, the options, the notebooks, and copies of all files that pages link to."""
    for path, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text()))
    files.append(File.generated(config, "options.md", content=options_page()))
    for notebook in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=notebook_page(notebook)))
    for path in sorted(set(_linked(files))):
        there = place(path, ROOT)
        if there is not None and files.get_file_from_path(there) is None and (ROOT / path).is_file():
            files.append(_copy(path, there, config))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Let links lead to places in the site; set the page's rank in searches."""
    if page.file.src_uri in LISTS:
        page.meta["search"] = {"boost": 0.3}
    return rewrite(markdown, project_path(page.file.src_uri), ROOT)


def _linked(files: Files) -> Iterator[str]:
    for file in files.documentation_pages():
        yield from targets(file.content_string, project_path(file.src_uri))


def _copy(path: str, there: str, config: MkDocsConfig) -> File:
    page = source_page(path, ROOT)
    if page is None:
        return File.generated(config, there, abs_src_path=str(ROOT / path))
    return File.generated(config, there, content=page, inclusion=InclusionLevel.NOT_IN_NAV)
