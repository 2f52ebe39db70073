"""Docstrings mark blocks of code with `::` on a line of its own; in the site they are fenced blocks."""

from __future__ import annotations

import re
from textwrap import dedent, indent
from typing import Any

import griffe

_BLOCK = re.compile(r"^(?P<margin> *)::\n\n(?P<code>(?:(?P=margin) {4,}.*\n?|\n)+)", re.MULTILINE)


class LiteralBlocks(griffe.Extension):
    """Replaces the blocks of all docstrings."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Replace the blocks of one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """Return a docstring with fenced blocks of code."""

    def fence(block: re.Match[str]) -> str:
        return indent(f"```python\n{dedent(block['code']).strip()}\n```\n\n", block["margin"])

    return _BLOCK.sub(fence, text)
