"""A matplotlib figure as a piece of HTML whose text and black lines have the colour of the page."""

from __future__ import annotations

import io
import re

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

# White boxes behind legends and labels would shine in the dark.
_COLOURS = {"#000000": "currentColor", "#ffffff": "none"}


def inline_svg(figure: Figure, prefix: str) -> Markup:
    """Return `figure` as an ``<svg>`` element; `prefix` makes its identifiers unique on a page."""
    content = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": prefix, "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    svg = content.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    for colour, instead in _COLOURS.items():
        svg = svg.replace(colour, instead)
    # Text without a colour of its own is black.
    return Markup(svg.replace("<svg ", '<svg fill="currentColor" ', 1))
