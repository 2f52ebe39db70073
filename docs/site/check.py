"""Find what is wrong with the links of the built site: dead ones, and what a page loads from other hosts.

    python docs/site/check.py site    # fails and names page and link

Links to other hosts are not followed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser loads by itself, and what it only loads if a reader asks for it.
_LOADED = {"img": "src", "script": "src", "source": "src", "link": "href"}
_FOLLOWED = {"a": "href"}


class Links(HTMLParser):
    """The links and anchors of one page."""

    def __init__(self, text: str) -> None:
        """Read the page."""
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[tuple[str, bool]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the id of an element, and the link of one that has any."""
        values = dict(attrs)
        self.anchors |= {name for name in (values.get("id"), values.get("name")) if name}
        # The address of the page itself, for search engines; nothing is loaded from it.
        if values.get("rel") == "canonical":
            return
        for elements, loaded in ((_LOADED, True), (_FOLLOWED, False)):
            link = values.get(elements.get(tag, ""))
            if link:
                self.links.append((link, loaded))


@cache
def links(page: Path) -> Links:
    """Return links and anchors of a page."""
    return Links(page.read_text())


def problem(link: str, loaded: bool, page: Path, site: Path) -> str | None:
    """Return what is wrong with a link of a page of `site`; None if nothing is."""
    parts = urlsplit(link)
    if parts.scheme == "data" or (parts.scheme == "mailto" and not loaded):
        return None
    if parts.scheme or parts.netloc:
        return "is loaded from another host" if loaded else None
    name = unquote(parts.path)
    file = (site / name[1:] if name.startswith("/") else page.parent / name).resolve() if name else page
    if file.is_dir():
        file /= "index.html"
    if not file.is_file():
        return "leads nowhere"
    anchor = unquote(parts.fragment)
    # Material's own mark for the start of a page.
    if anchor and anchor != "__skip" and file.suffix == ".html" and anchor not in links(file).anchors:
        return f"has an anchor that {file.relative_to(site.resolve())} lacks"
    return None


def problems(site: Path) -> Iterator[str]:
    """Yield the problems of all pages."""
    for page in sorted(site.resolve().rglob("*.html")):
        for link, loaded in links(page).links:
            reason = problem(link, loaded, page, site)
            if reason is not None:
                yield f"{page.relative_to(site.resolve())}: {link} {reason}"


def main(site: Path) -> int:
    """Print the problems; return the exit code."""
    if not (site / "index.html").is_file():
        print(f"{site} is not a built site; run `make docs`", file=sys.stderr)
        return 2
    found = list(problems(site))
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
