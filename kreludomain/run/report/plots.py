"""The pictures of a report, as text that goes into the page: plots as SVG, images as data URIs."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator

from kreludomain.run.certify.plots import draw_margins, draw_widths
from kreludomain.run.certify.rows import CertifyRow, Summary
from kreludomain.run.report.data import SOLVED
from kreludomain.verify import Verdict

#: Colours that are finished apart on white and on black, also without red and green.
COLOURS = {
    Verdict.VERIFIED: "#2a9d6f",
    Verdict.FALSIFIED: "#d1495b",
    Verdict.UNKNOWN: "#d9a441",
    Verdict.TIMEOUT: "#7a77b9",
    Verdict.ERROR: "#6b6b6b",
    Verdict.MISCLASSIFIED: "#a9a9a9",
}

#: Text stays text, nothing is painted behind it, and equal plots are equal files.
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "kreludomain",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 10,
}


def plots(summaries: Sequence[Summary], rows: Sequence[CertifyRow]) -> dict[str, str]:
    """The SVG of each plot by its name."""
    labels = [summary.method for summary in summaries]
    bars = 0.9 + 0.32 * len(summaries)
    drawn: dict[str, tuple[Callable[[Axes], object], float]] = {
        "verdicts": (lambda axes: _bars(axes, summaries, rows, lambda row: 1.0, "samples"), bars),
        "cactus": (lambda axes: _cactus(axes, labels, rows), 4.2),
        "margins": (lambda axes: draw_margins(axes, labels, rows), 4.2),
        "widths": (lambda axes: draw_widths(axes, summaries), 4.2),
        "time": (lambda axes: _bars(axes, summaries, rows, lambda row: row.seconds, "seconds in all"), bars),
    }
    with matplotlib.rc_context(STYLE):
        return {name: _svg(name, draw, height) for name, (draw, height) in drawn.items()}


def image(values: np.ndarray, low: float, high: float) -> str:
    """An image ``(height, width, 1 or 3)`` as a PNG's data URI; ``low`` is black, ``high`` is white."""
    scaled = np.clip((values.astype(np.float64) - low) / max(high - low, 1e-300), 0.0, 1.0)
    file = io.BytesIO()
    imsave(file, np.repeat(scaled, 3, axis=2) if scaled.shape[2] == 1 else scaled, format="png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _svg(name: str, draw: Callable[[Axes], object], height: float) -> str:
    """A plot that takes the page's colour and font, and whose identifiers are like no other plot's."""
    figure = Figure(figsize=(8.0, height), layout="constrained")
    axes = figure.subplots()
    draw(axes)
    axes.set_title("")  # the page has headings
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4) or 1, frameon=False)
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'\s(?:xmlns(?::\w+)?|version)="[^"]*"', "", text)
    text = re.sub(r'(<svg[^>]*?)\swidth="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?)\sheight="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    return text.replace("#000000", "currentColor").replace("<svg", f'<svg role="img" aria-label="{name}"', 1)


def _bars(
    axes: Axes,
    summaries: Sequence[Summary],
    rows: Sequence[CertifyRow],
    value: Callable[[CertifyRow], float],
    label: str,
) -> None:
    """A bar a method, a part of it a verdict, the first method on top."""
    labels = [summary.method for summary in summaries]
    left = np.zeros(len(labels))
    for verdict, colour in COLOURS.items():
        parts = [sum(value(row) for row in rows if row.method == name and row.verdict == verdict) for name in labels]
        if any(parts):
            axes.barh(labels, parts, left=left, color=colour, label=verdict.value, height=0.7)
            left += parts
    axes.margins(y=0.02)
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(label)


def _cactus(axes: Axes, labels: Sequence[str], rows: Sequence[CertifyRow]) -> None:
    """How many samples each method has verified or falsified within so many seconds for each."""
    for name in labels:
        seconds = sorted(row.seconds for row in rows if row.method == name and row.verdict in SOLVED)
        if seconds:
            solved = [*range(1, len(seconds) + 1), len(seconds)]
            axes.step([*seconds, max(row.seconds for row in rows)], solved, where="post", label=name)
    if axes.lines:
        axes.set_xscale("log")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="seconds for a sample", ylabel="samples verified or falsified")
    axes.grid(alpha=0.3)
