"""Pictures of radii: brackets side by side, and for maps of the plane where they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from kreludomain.network import Network
from kreludomain.run.invert import InvertRun, PlaneConfig, Row
from kreludomain.run.invert_tables import question_of
from kreludomain.run.output.figures import colour, norm_name, save_figure

#: Points a side of the grid on which the sign of the determinant is looked at.
_GRID = 400

_TURNED, _R, _PREIMAGE, _CURVE = "#f3d9c9", "#1f5fa8", "#3a7d44", "#b3001b"


def save_radii(path: Path, rows: Sequence[Row]) -> None:
    """Writes ``radii.png`` and ``radii.svg``: a bracket a row, and the seconds it took."""
    figure = Figure(figsize=(11, 1.6 + 0.24 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    methods = list(dict.fromkeys(row.method for row in rows))
    colours = {method: colour(i) for i, method in enumerate(methods)}
    for place, row in enumerate(rows):
        _bracket(left, place, row, colours[row.method])
        right.barh(place, max(row.seconds, 1e-3), color=colours[row.method], height=0.6)
    names = [f"{question_of(row)} at {row.index}, p = {norm_name(row.norm)}" for row in rows]
    shown = [name if place == 0 or names[place - 1] != name else "" for place, name in enumerate(names)]
    left.set_yticks(range(len(rows)), shown)
    left.invert_yaxis()
    apart = "second outputs" if any(row.onto for row in rows) else "points"
    left.set(xlabel="radius", title=f"Radii ({apart} at least {rows[0].epsilon:g} apart)" if rows else "Radii")
    left.set_xlim(left=0)
    right.set(xlabel="seconds", title="Time to the bracket")
    times = [row.seconds for row in rows]
    if max(times, default=0.0) > 30 * max(min(times, default=0.0), 1e-3):
        right.set_xscale("log")
    for axes in (left, right):
        axes.grid(axis="x", alpha=0.3)
    handles: list[Line2D | Patch] = [Patch(color=colours[method], label=f"bounds by {method}") for method in methods]
    handles += [
        Line2D([], [], color="black", linewidth=5, alpha=0.6, label="certified: nothing nearer"),
        Line2D([], [], color="black", marker="|", linestyle="none", markersize=10, label="a pair was found here"),
        Line2D([], [], color="black", marker=">", linestyle="none", label="nothing in all of what was searched"),
    ]
    if any(row.upper is None and row.lower < row.searched for row in rows):
        handles.append(Line2D([], [], color="black", linestyle=":", label="not decided"))
    if any(row.strict is not None for row in rows):
        handles.append(
            Line2D([], [], color="black", marker="o", linestyle="none", label="certified for any two points")
        )
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    save_figure(figure, path, "radii")


def _bracket(axes: Axes, place: int, row: Row, colour: str) -> None:
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


def save_plane(path: Path, run: InvertRun, rows: Sequence[Row]) -> None:
    """Writes ``plane.png`` and ``plane.svg``: a panel a norm, with the tightest bracket of each centre and question."""
    plane = run.config.plane
    if plane is None:
        return
    norms = run.config.norms
    figure = Figure(figsize=(1.0 + 5.2 * len(norms), 6.2), layout="constrained")
    panels = figure.subplots(1, len(norms), squeeze=False, sharey=True)[0]
    turned = orientation(run.network, plane)
    for axes, norm in zip(panels, norms, strict=True):
        _ground(axes, plane, turned, run)
        for row in rows:
            if row.norm == norm and row.question in ("r", "R") and row.method == run.config.methods[0].label:
                _ball(axes, row)
        axes.set(title=f"p = {norm_name(norm)}", xlabel="x", xlim=_side(plane, 0), ylim=_side(plane, 1), aspect="equal")
    panels[0].set_ylabel("y")
    figure.suptitle(f"{run.config.network.rpartition('/')[2]}: certified balls around points")
    figure.legend(handles=_plane_legend(run), loc="outside lower center", ncols=3, frameon=False)
    save_figure(figure, path, "plane")


def orientation(network: Network, plane: PlaneConfig) -> np.ndarray:
    """Where the network turns the plane over: whether its Jacobian's determinant is negative, on a grid (rows: y)."""
    x, y = (torch.linspace(*_side(plane, axis), _GRID, dtype=torch.float64) for axis in (0, 1))
    points = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, *network.input.shape).requires_grad_()
    images = network(points).flatten(1)
    rows = [torch.autograd.grad(images[:, i].sum(), points, retain_graph=True)[0].flatten(1) for i in (0, 1)]
    negative: np.ndarray = (torch.linalg.det(torch.stack(rows, 1)) < 0).reshape(_GRID, _GRID).numpy()
    return negative


def _ground(axes: Axes, plane: PlaneConfig, turned: np.ndarray, run: InvertRun) -> None:
    extent = (*_side(plane, 0), *_side(plane, 1))
    axes.imshow(
        turned, origin="lower", extent=extent, cmap=ListedColormap(["white", _TURNED]), vmin=0, vmax=1, zorder=0
    )
    if run.curve is not None:
        axes.plot(run.curve[:, 0], run.curve[:, 1], color=_CURVE, linewidth=1.3, linestyle="--", zorder=2)


def _ball(axes: Axes, row: Row) -> None:
    center = np.array(row.center)
    colour, style = (_R, "-") if row.question == "r" else (_PREIMAGE, "-.")
    axes.plot(
        *(center[:, None] + row.lower * unit_ball(row.norm)),
        color=colour,
        linestyle=style,
        linewidth=1.6 if row.question == "r" else 1.0,
        zorder=4,
    )
    if row.question == "r" and row.strict is not None:
        ball = center[:, None] + row.strict * unit_ball(row.norm)
        axes.plot(*ball, color=colour, linestyle=":", linewidth=1.2, zorder=4)
    axes.plot(*center, marker="o", color="black", markersize=4, zorder=5)
    if row.points is None:
        return
    if row.question == "r":
        for point in row.points:
            axes.plot(*point, marker="x", color=colour, markersize=6, markeredgewidth=1.4, zorder=6)
    else:
        axes.plot(*row.points[0], marker="D", color=colour, markersize=5, zorder=6)


def unit_ball(norm: str, count: int = 400) -> np.ndarray:
    """Points ``(2, count)`` around the unit ball of a norm."""
    angle = np.linspace(0, 2 * np.pi, count)
    around = np.stack([np.cos(angle), np.sin(angle)])
    return around / np.linalg.norm(around, ord=float(norm), axis=0)


def _plane_legend(run: InvertRun) -> list[Line2D | Patch]:
    handles: list[Line2D | Patch] = [Patch(color=_TURNED, label="the network turns the plane over (det < 0)")]
    if run.config.plane is not None and run.config.plane.curve is not None:
        handles.append(Line2D([], [], color=_CURVE, linestyle="--", label=run.config.plane.curve.label))
    handles.append(Line2D([], [], color="black", marker="o", linestyle="none", markersize=4, label="centre"))
    if "r" in run.config.asked:
        apart = f"{run.config.epsilon:g}"
        handles.append(Line2D([], [], color=_R, label=f"r: no two points {apart} apart with one image"))
        if run.config.strict:
            handles.append(Line2D([], [], color=_R, linestyle=":", label="no two points with one image: invertible"))
        handles.append(Line2D([], [], color=_R, marker="x", linestyle="none", label="two points with one image"))
    if "R" in run.config.asked:
        handles.append(
            Line2D([], [], color=_PREIMAGE, linestyle="-.", label="R: no other point with the centre's image")
        )
        handles.append(
            Line2D([], [], color=_PREIMAGE, marker="D", linestyle="none", label="another point with the centre's image")
        )
    return handles


def _side(plane: PlaneConfig, axis: int) -> tuple[float, float]:
    return plane.lower[axis], plane.upper[axis]
