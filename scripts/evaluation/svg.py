"""Matplotlib's pictures inside of a page: in its colours and type, light or dark."""

from __future__ import annotations

import io
import re
from html import escape
from typing import Any

from matplotlib.figure import Figure

INK, MUTED, LINE, PAPER, ACCENT = "#18222b", "#5a6872", "#d9e0e4", "#ffffff", "#0b6b72"
_VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", PAPER: "card", ACCENT: "accent"}

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "cytolibra",
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlecolor": INK,
    "axes.titlepad": 9.0,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}
"""Pass it to `matplotlib.rc_context` around drawing and `to_svg`."""


def to_svg(figure: Figure, label: str) -> str:
    """A figure as an SVG element of a page.

    The colours above become the page's variables, type and size are left to it. Ids go, but for
    the hashes that are referred to: two pictures of one page would share them.

    Args:
        figure: drawn in `STYLE`.
        label: what it shows, for who can't see it.
    """
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r' id="(?![mp][0-9a-f]{10}")[^"]*"', "", text)
    text = re.sub(r"font-family: '[^']*';?|font: [^;]*;", "", text)
    head, rest = text.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*pt"', "", head)
    for color, name in _VARIABLES.items():
        rest = rest.replace(color, f"var(--{name})")
    return f'{head} role="img" aria-label="{escape(label)}">{rest}'


def alone(picture: str) -> str:
    """A picture of `to_svg` as a file of its own, in the page's colours by day."""
    for color, name in _VARIABLES.items():
        picture = picture.replace(f"var(--{name})", color)
    return picture.replace("<svg", '<svg font-family="DejaVu Sans, sans-serif" font-size="9"', 1)
