"""The plot of a comparison: margins of the samples, and mean widths of the layers, by method."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter, MaxNLocator

from kreludomain.run.certify.rows import CertifyRow, Summary, all_layers
from kreludomain.run.output.figures import figure_files, marker, new_figure


def comparison(summaries: Sequence[Summary], rows: Sequence[CertifyRow]) -> dict[str, bytes]:
    """``comparison.png`` and ``comparison.svg``: margins on the left, widths on the right."""
    figure = new_figure(13, 5.5)
    left, right = figure.subplots(1, 2)
    draw_margins(left, [s.method for s in summaries], rows)
    draw_widths(right, summaries)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6), frameon=False)
    return figure_files("comparison", figure)


def draw_margins(axes: Axes, methods: Sequence[str], rows: Sequence[CertifyRow]) -> None:
    """A line a method, smallest margin first: where it crosses zero, the method's verified samples begin."""
    every = []
    for position, method in enumerate(methods):
        margins = sorted(row.margin for row in rows if row.method == method and row.margin is not None)
        axes.plot(range(1, len(margins) + 1), margins, marker=marker(position), markersize=4, label=method)
        every += margins
    axes.axhline(0, color="black", linewidth=0.8, zorder=0)
    near = max(every, default=0.0)
    if near > 0 and min(every) < -10 * near:
        # Loose methods are off by orders of magnitude: linear near zero, where verdicts are made, logarithmic beyond.
        axes.set_yscale("symlog", linthresh=near, linscale=2)
        axes.yaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="samples, each method's smallest margin first", ylabel="margin", title="Margins (verified above 0)")
    axes.grid(alpha=0.3)


def draw_widths(axes: Axes, summaries: Sequence[Summary]) -> None:
    """A line a method over the layers."""
    layers = all_layers(summaries)
    places = np.arange(len(layers))
    for position, summary in enumerate(summaries):
        widths = [summary.widths.get(layer, np.nan) for layer in layers]
        offset = 0.06 * (position - (len(summaries) - 1) / 2)  # side by side: equal widths would hide each other
        axes.plot(places + offset, widths, marker=marker(position), markersize=4, label=summary.method)
    axes.set_xticks(places, layers, rotation=30, ha="right")
    if layers:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.5)))
    axes.set(ylabel="mean upper - lower", title="Mean width of a layer's bounds")
    axes.grid(alpha=0.3)
