"""Figures of radii: brackets side by side, and for maps of the plane the balls where they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from kreludomain.analysis.invert import reverses_orientation
from kreludomain.network import Network
from kreludomain.run.invert.config import InvertConfig, WindowConfig
from kreludomain.run.invert.rows import RadiusRow
from kreludomain.run.output.figures import colour, figure_files, new_figure, norm_name

#: Points a side of the grid on which the sign of the determinant is evaluated.
_GRID = 400

_NEGATIVE, _PAIR, _PREIMAGE, _CURVE = "#f3d9c9", "#1f5fa8", "#3a7d44", "#b3001b"

#: How each question's balls look: colour, line, its width, and the marker of its witnesses.
_STYLES = {"r": (_PAIR, "-", 1.6, "x"), "R": (_PREIMAGE, "-.", 1.0, "D")}


def radii_figure(rows: Sequence[RadiusRow]) -> dict[str, bytes]:
    """``radii.png`` and ``radii.svg``: a bracket a row, and the seconds it took."""
    figure = new_figure(11, 1.6 + 0.24 * len(rows))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    methods = list(dict.fromkeys(row.method for row in rows))
    colours = {method: colour(position) for position, method in enumerate(methods)}
    for place, row in enumerate(rows):
        _draw_bracket(left, place, row, colours[row.method])
        right.barh(place, max(row.seconds, 1e-3), color=colours[row.method], height=0.6)
    names = [f"{row.asked}, p = {norm_name(row.norm)}" for row in rows]
    once = [name if place == 0 or names[place - 1] != name else "" for place, name in enumerate(names)]
    left.set_yticks(range(len(rows)), once)
    left.invert_yaxis()
    apart = "second outputs" if any(row.onto for row in rows) else "points"
    left.set(xlabel="radius", title=f"Radii ({apart} at least {rows[0].epsilon:g} apart)")
    left.set_xlim(left=0)
    right.set(xlabel="seconds", title="Time to the bracket")
    times = [max(row.seconds, 1e-3) for row in rows]
    if max(times) > 30 * min(times):
        right.set_xscale("log")
    for axes in (left, right):
        axes.grid(axis="x", alpha=0.3)
    figure.legend(handles=_bracket_legend(rows, colours), loc="outside lower center", ncols=3, frameon=False)
    return figure_files("radii", figure)


def _draw_bracket(axes: Axes, place: int, row: RadiusRow, colour: str) -> None:
    axes.plot([0, row.lower], [place, place], color=colour, linewidth=5, alpha=0.6, solid_capstyle="butt")
    if row.upper is not None:
        axes.plot([row.lower, row.upper], [place, place], color=colour, linewidth=1.2)
        axes.plot(row.upper, place, marker="|", color="black", markersize=11)
    elif row.lower >= row.searched:
        axes.plot(row.lower, place, marker=">", color="black", markersize=6)
    else:
        axes.plot([row.lower, row.searched], [place, place], color=colour, linewidth=1.2, linestyle=":")
    if row.strict is not None:
        axes.plot(row.strict, place, marker="o", color="black", markersize=4)


def _bracket_legend(rows: Sequence[RadiusRow], colours: dict[str, str]) -> list[Line2D | Patch]:
    handles: list[Line2D | Patch] = [Patch(color=own, label=f"bounds by {method}") for method, own in colours.items()]
    handles.append(_line("certified: nothing nearer", "black", "-", linewidth=5, alpha=0.6))
    handles.append(_mark("a pair was found here", "|", markersize=10))
    handles.append(_mark("nothing in the whole ball", ">"))
    if any(row.upper is None and row.lower < row.searched for row in rows):
        handles.append(_line("not decided", "black", ":"))
    if any(row.strict is not None for row in rows):
        handles.append(_mark("certified for any two points", "o"))
    return handles


def plane_figure(
    config: InvertConfig, window: WindowConfig, network: Network, curve: np.ndarray | None, rows: Sequence[RadiusRow]
) -> dict[str, bytes]:
    """``plane.png`` and ``plane.svg``: a panel a norm, with the first method's certified balls of each question."""
    norms = config.norms
    figure = new_figure(1.0 + 5.2 * len(norms), 6.2)
    panels = figure.subplots(1, len(norms), squeeze=False, sharey=True)[0]
    extent = (window.lower[0], window.upper[0], window.lower[1], window.upper[1])
    negative, shades = orientation(network, window), ListedColormap(["white", _NEGATIVE])
    for axes, norm in zip(panels, norms, strict=True):
        axes.imshow(negative, origin="lower", extent=extent, cmap=shades, vmin=0, vmax=1, zorder=0)
        if curve is not None:
            axes.plot(curve[:, 0], curve[:, 1], color=_CURVE, linewidth=1.3, linestyle="--", zorder=2)
        for row in rows:
            if row.norm == norm and row.question in _STYLES and row.method == config.methods[0].label:
                _draw_ball(axes, row)
        title = f"p = {norm_name(norm)}"
        axes.set(title=title, xlabel="x", xlim=extent[:2], ylim=extent[2:], aspect="equal")
    panels[0].set_ylabel("y")
    figure.suptitle(f"{rows[0].network}: certified balls around points")
    figure.legend(handles=_plane_legend(config, window), loc="outside lower center", ncols=3, frameon=False)
    return figure_files("plane", figure)


def orientation(network: Network, window: WindowConfig) -> np.ndarray:
    """Whether the network reverses the orientation, on a grid (rows: y)."""
    x, y = (torch.linspace(window.lower[i], window.upper[i], _GRID, dtype=torch.float64) for i in (0, 1))
    points = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, *network.input.shape)
    negative: np.ndarray = reverses_orientation(network, points).reshape(_GRID, _GRID).numpy()
    return negative


def _draw_ball(axes: Axes, row: RadiusRow) -> None:
    center = np.array(row.center)
    colour, line, width, marker = _STYLES[row.question]
    around = unit_ball(row.norm)
    axes.plot(*(center[:, None] + row.lower * around), color=colour, linestyle=line, linewidth=width, zorder=4)
    if row.question == "r" and row.strict is not None:
        axes.plot(*(center[:, None] + row.strict * around), color=colour, linestyle=":", linewidth=1.2, zorder=4)
    axes.plot(*center, marker="o", color="black", markersize=4, zorder=5)
    for point in (row.points or ())[: 2 if row.question == "r" else 1]:  # the second preimage is the centre
        axes.plot(*point, marker=marker, color=colour, markersize=5.5, markeredgewidth=1.4, zorder=6)


def unit_ball(norm: str, count: int = 400) -> np.ndarray:
    """Points ``(2, count)`` around the unit ball of a norm."""
    angle = np.linspace(0, 2 * np.pi, count)
    around = np.stack([np.cos(angle), np.sin(angle)])
    result: np.ndarray = around / np.linalg.norm(around, ord=float(norm), axis=0)
    return result


def _plane_legend(config: InvertConfig, window: WindowConfig) -> list[Line2D | Patch]:
    handles: list[Line2D | Patch] = [Patch(color=_NEGATIVE, label="the network reverses the orientation (det < 0)")]
    if window.curve is not None:
        handles.append(_line(window.curve.label, _CURVE, "--"))
    handles.append(_mark("centre", "o", markersize=4))
    if "r" in config.asked:
        handles.append(_line(f"r: no two points {config.epsilon:g} apart with one image", _PAIR, "-"))
        if config.strict:
            handles.append(_line("no two points with one image: invertible", _PAIR, ":"))
        handles.append(_mark("two points with one image", "x", _PAIR))
    if "R" in config.asked:
        handles.append(_line("R: no other point with the centre's image", _PREIMAGE, "-."))
        handles.append(_mark("another point with the centre's image", "D", _PREIMAGE))
    return handles


def _line(label: str, colour: str, style: Any, **more: Any) -> Line2D:
    return Line2D([], [], color=colour, linestyle=style, label=label, **more)


def _mark(label: str, marker: str, colour: str = "black", **more: Any) -> Line2D:
    return Line2D([], [], color=colour, marker=marker, linestyle="none", label=label, **more)
