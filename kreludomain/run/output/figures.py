"""Figures as files, and what they have in common: colours and markers by position, names of norms."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

#: Markers and colours of curves in turn; the colours can be told apart by colour-blind people.
MARKERS = "osD^vPX*<>"
COLOURS = ("#1f5fa8", "#d1701a", "#3a7d44", "#8a4fa3", "#7a6a53", "#b3001b", "#4f9da6", "#555555")


def save_figure(figure: Figure, folder: Path, name: str, dpi: int = 150) -> tuple[str, str]:
    """Writes ``NAME.png`` and ``NAME.svg``, the same bytes for the same figure. Returns the names of the two files."""
    FigureCanvasAgg(figure)  # no window system is needed
    files = f"{name}.png", f"{name}.svg"
    with matplotlib.rc_context({"svg.hashsalt": "kreludomain"}):  # otherwise the names in an SVG file are random
        figure.savefig(folder / files[0], dpi=dpi, metadata={"Software": None})
        figure.savefig(folder / files[1], dpi=dpi, metadata={"Date": None})
    return files


def marker(position: int) -> str:
    """The marker of the curve at a position."""
    return MARKERS[position % len(MARKERS)]


def colour(position: int) -> str:
    """The colour of the curve at a position."""
    return COLOURS[position % len(COLOURS)]


def norm_name(norm: str) -> str:
    """A norm as it is written in a figure."""
    return "∞" if norm == "inf" else norm
