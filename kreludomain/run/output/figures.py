"""Figures as files; colours and markers by position, names of norms: the same in all figures."""

from __future__ import annotations

import io

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

#: Markers and colours of curves in turn; the colours can be told apart by colour-blind people.
MARKERS = "osD^vPX*<>"
COLOURS = ("#1f5fa8", "#d1701a", "#3a7d44", "#8a4fa3", "#7a6a53", "#b3001b", "#4f9da6", "#555555")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, which needs no window system."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def figure_files(name: str, figure: Figure, dpi: int = 150) -> dict[str, bytes]:
    """The contents of ``NAME.png`` and ``NAME.svg`` by these names, the same bytes for the same figure."""
    FigureCanvasAgg(figure)
    png, svg = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "kreludomain"}):  # otherwise the names in an SVG file are random
        figure.savefig(png, format="png", dpi=dpi, metadata={"Software": None})
        figure.savefig(svg, format="svg", dpi=dpi, metadata={"Date": None})
    return {f"{name}.png": png.getvalue(), f"{name}.svg": svg.getvalue()}


def marker(position: int) -> str:
    """The marker of the curve at a position."""
    return MARKERS[position % len(MARKERS)]


def colour(position: int) -> str:
    """The colour of the curve at a position."""
    return COLOURS[position % len(COLOURS)]


def norm_name(norm: str) -> str:
    """A norm as it is written in a figure."""
    return "∞" if norm == "inf" else norm
