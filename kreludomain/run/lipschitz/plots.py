"""Plots of Lipschitz constants and robust radii: by sample, by network, or along the axes of a study."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kreludomain.analysis.lipschitz.radius import LOCAL
from kreludomain.run.lipschitz.rows import LIPSDP, PRODUCT, ArchitectureRow, NetworkRow, Report, SampleRow
from kreludomain.run.output.figures import figure_files, new_figure

Value = int | float | str


@dataclass(frozen=True)
class Series:
    """A line of a panel: certified bounds are solid, samples and attacks dotted, estimates dashed."""

    label: str
    colour: str
    marker: str
    line: str
    values: Callable[[NetworkRow, Sequence[SampleRow]], Iterable[float | None]]


#: Constants, from the loosest to the sampled one.
CONSTANTS = (
    Series("estimate from the architecture\n(untrained; no bound)", "0.55", "x", "--", lambda net, _: [net.estimate]),
    Series("product of layer norms, certified", "C0", "s", "-", lambda net, _: [net.product]),
    Series("LipSDP, certified", "C4", "D", "-", lambda net, _: [net.lipsdp]),
    Series("local, certified", "C2", "o", "-", lambda _, rows: [row.local for row in rows]),
    Series("sampled (lower bound of local)", "C3", "^", ":", lambda _, rows: [row.sampled for row in rows]),
)

#: Colours and markers of radii by name; methods take the others in turn.
STYLES = {PRODUCT: ("C0", "s"), LIPSDP: ("C4", "D"), LOCAL: ("C2", "o")}
NAMES = {PRODUCT: "from the product", LIPSDP: "from LipSDP", LOCAL: "from local constants"}
OTHERS = (("C1", "v"), ("C5", "P"), ("C9", "X"), ("C6", "*"), ("C8", "<"))


@dataclass(frozen=True)
class Column:
    """A column of panels: its title, the label of its x-axis, and the places on that axis with their rows."""

    title: str
    label: str
    places: tuple[tuple[Value, tuple[tuple[NetworkRow, tuple[SampleRow, ...]], ...]], ...]

    @property
    def is_scale(self) -> bool:
        """Whether places are positive numbers, which are drawn to scale."""
        return len(self.places) > 1 and all(not isinstance(value, str) and value > 0 for value, _ in self.places)


def figures(report: Report) -> dict[str, bytes]:
    """The figures that the rows fill, as PNG and SVG by the names of the files."""
    files = figure_files("architectures", _architectures(report.architectures)) if report.architectures else {}
    return files | (figure_files("lipschitz", _networks(report)) if report.networks else {})


def _networks(report: Report) -> Figure:
    """Constants and radii side by side, or one above the other with a column for each axis of a study."""
    columns, radii, first = _columns(report), _radii(report), report.samples[0]
    norm = "\\infty" if first.norm == "inf" else first.norm
    constant = (
        f"Lipschitz constant, $\\ell_{{{norm}}}$ to $\\ell_{{{norm}}}$\n(local: within {first.within} of a sample)"
    )
    panels = [(CONSTANTS, constant)] + ([(radii, f"robust radius, $\\ell_{{{norm}}}$")] if radii else [])
    stacked = len(columns) > 1
    shape = (len(panels), len(columns)) if stacked else (1, len(panels))
    size = (4.0 + 3.4 * len(columns), 4.2 * len(panels)) if stacked else (8.2 * len(panels), 5.0)
    figure = new_figure(*size)
    if len(report.networks) > 1:
        figure.suptitle("lines: medians over samples and networks; bands: the middle half of them")
    grid = figure.subplots(*shape, squeeze=False, sharey="row" if stacked else False)
    for row, (series, label) in enumerate(panels):
        places = [grid[row][i] for i in range(len(columns))] if stacked else [grid[0][row]]
        for axes, column in zip(places, columns, strict=True):
            _panel(axes, column, series)
            axes.set_title(column.title)
        places[0].set_ylabel(label)
        most = max(places, key=lambda axes: len(axes.get_legend_handles_labels()[1]))
        handles, labels = most.get_legend_handles_labels()
        places[-1].legend(handles, labels, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _columns(report: Report) -> list[Column]:
    """A column for each axis of a study; else networks side by side; else the samples of one network."""
    pairs = tuple((network, report.around(network)) for network in report.networks)
    axes = list(dict.fromkeys(axis for network in report.networks for axis in network.axes))
    if axes:
        columns = []
        for axis in axes:
            values = dict.fromkeys(network.axes[axis] for network in report.networks if axis in network.axes)
            ordered = sorted(values) if not any(isinstance(v, str) for v in values) else list(values)
            places = tuple((v, tuple(pair for pair in pairs if pair[0].axes.get(axis) == v)) for v in ordered)
            columns.append(Column(f"by {axis}", axis, places))
        return columns
    if len(pairs) > 1:
        return [Column("networks", "network (median of its samples)", tuple((n.network, ((n, s),)) for n, s in pairs))]
    network, samples = pairs[0]
    return [Column(network.network, "sample", tuple((str(s.index), ((network, (s,)),)) for s in samples))]


def _radii(report: Report) -> tuple[Series, ...]:
    made, others = [], iter(OTHERS * (1 + len(report.radii)))
    for name in report.radii:
        colour, marker = STYLES.get(name) or next(others)
        label = f"certified: {NAMES.get(name, name)}"
        values = partial(lambda name, _, rows: [row.radii.get(name) for row in rows], name)
        made.append(Series(label, colour, marker, "-", values))
    if any(row.attacked is not None for row in report.samples):
        label = "nearest counterexample\nfound (upper bound)"
        made.append(Series(label, "C3", "^", ":", lambda _, rows: [row.attacked for row in rows]))
    return tuple(reversed(made))


def _panel(axes: Axes, column: Column, series: Sequence[Series]) -> None:
    scale = column.is_scale
    places = [float(value) if scale else position for position, (value, _) in enumerate(column.places)]
    for line in series:
        points = []
        for place, (_, pairs) in zip(places, column.places, strict=True):
            found = [value for network, rows in pairs for value in line.values(network, rows)]
            there = [value for value in found if value is not None and value > 0]
            if there:
                points.append((place, *_quartiles(there)))
        if not points:
            continue
        x, low, y, high = zip(*points, strict=True)
        style: dict[str, Any] = {"color": line.colour, "marker": line.marker, "linestyle": line.line}
        axes.plot(x, y, **style, markersize=5, linewidth=1.4, label=line.label)
        if any(a < b for a, b in zip(low, high, strict=True)):
            axes.fill_between(x, low, high, color=line.colour, alpha=0.12, linewidth=0)
    axes.set_yscale("log")
    if scale and max(places) >= 8 * min(places):
        axes.set_xscale("log", base=2)
        axes.minorticks_off()
    axes.set_xticks(places, [f"{value:g}" if scale else str(value) for value, _ in column.places])
    if not scale and max(len(str(value)) for value, _ in column.places) > 8:
        axes.tick_params(axis="x", rotation=20)
    axes.set_xlabel(column.label)
    axes.grid(alpha=0.3, which="major")


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The quartiles of the values."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3
    return low, middle, high


def _architectures(rows: Sequence[ArchitectureRow]) -> Figure:
    """The estimate and the mean over random networks for each initialisation, architecture by architecture."""
    names = list(dict.fromkeys(row.architecture for row in rows))
    figure = new_figure(max(7.0, 2.5 + 1.1 * len(names)), 5.2)
    axes = figure.subplots()
    for position, name in enumerate(dict.fromkeys(row.initialisation for row in rows)):
        chosen = [row for row in rows if row.initialisation == name]
        here, colour = [names.index(row.architecture) for row in chosen], f"C{position}"
        axes.plot(here, [row.estimate or np.nan for row in chosen], "x--", color=colour, label=f"{name}: estimate")
        measured = [row.measured or np.nan for row in chosen]
        if not np.isnan(measured).all():
            axes.plot(here, measured, "o", color=colour, mfc="none", label=f"{name}: measured")
        slopes = [row.slope or np.nan for row in chosen]
        axes.plot(here, slopes, "v:", color=colour, markersize=4, label=f"{name}: typical slope")
    axes.set_yscale("log")
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set(title="Product of layer norms of untrained networks", ylabel="product of layer norms, and typical slope")
    axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure
