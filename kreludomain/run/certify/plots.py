"""The plot of a comparison: margins of the samples, and mean widths of the layers, by method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter, MaxNLocator, PercentFormatter

from kreludomain.run.certify.rows import CertifyRow, Summary, all_layers
from kreludomain.run.output.figures import figure_files, marker, new_figure

#: Points ``(epsilon, share)`` of each method.
Curves = Mapping[str, Sequence[tuple[float, float]]]


def comparison(summaries: Sequence[Summary], rows: Sequence[CertifyRow], quantity: str = "margin") -> dict[str, bytes]:
    """``comparison.png`` and ``comparison.svg``: margins (or another ``quantity``) on the left, widths on the right."""
    figure = new_figure(13, 5.5)
    left, right = figure.subplots(1, 2)
    draw_margins(left, [s.series for s in summaries], rows, quantity)
    draw_widths(right, summaries)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6), frameon=False)
    return figure_files("comparison", figure)


def accuracy_figure(curves: Curves) -> dict[str, bytes]:
    """``certified_accuracy.png`` and ``certified_accuracy.svg``."""
    figure = new_figure(7, 4.5)
    axes = figure.subplots()
    draw_certified_accuracy(axes, curves)
    axes.legend(frameon=False)
    return figure_files("certified_accuracy", figure)


def draw_certified_accuracy(axes: Axes, curves: Curves) -> None:
    """The share of samples that are verified against epsilon, a line a method: points ``(epsilon, share)`` each."""
    for position, (method, curve) in enumerate(curves.items()):
        style = ("-", "--", "-.", ":")[position % 4]  # curves that are equal do not hide each other
        axes.plot(*zip(*curve, strict=True), style, marker=marker(position), markersize=5, label=method)
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set(xlabel="epsilon", ylabel="samples verified", title="Certified accuracy")
    axes.grid(alpha=0.3)


def draw_margins(axes: Axes, series: Sequence[str], rows: Sequence[CertifyRow], quantity: str = "margin") -> None:
    """A line a method (and epsilon), smallest margin first: where it crosses zero, its verified samples begin."""
    every = []
    for position, name in enumerate(series):
        margins = sorted(row.margin for row in rows if row.series == name and row.margin is not None)
        axes.plot(range(1, len(margins) + 1), margins, marker=marker(position), markersize=4, label=name)
        every += margins
    axes.axhline(0, color="black", linewidth=0.8, zorder=0)
    near = max(every, default=0.0)
    if near > 0 and min(every) < -10 * near:
        # Loose methods are off by orders of magnitude: linear near zero, where verdicts are made, logarithmic beyond.
        axes.set_yscale("symlog", linthresh=near, linscale=2)
        axes.yaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel=f"samples, each method's smallest {quantity} first", ylabel=quantity)
    axes.set_title(f"{quantity.capitalize()}s (verified above 0)")
    axes.grid(alpha=0.3)


def draw_widths(axes: Axes, summaries: Sequence[Summary]) -> None:
    """A line a method over the layers."""
    layers = all_layers(summaries)
    places = np.arange(len(layers))
    for position, summary in enumerate(summaries):
        widths = [summary.widths.get(layer, np.nan) for layer in layers]
        offset = 0.06 * (position - (len(summaries) - 1) / 2)  # side by side: equal widths would hide each other
        axes.plot(places + offset, widths, marker=marker(position), markersize=4, label=summary.series)
    axes.set_xticks(places, layers, rotation=30, ha="right")
    if layers:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.5)))
    axes.set(ylabel="mean upper - lower", title="Mean width of a layer's bounds")
    axes.grid(alpha=0.3)
