"""The picture of a pair of neurons: the sets that relaxations allow, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from mpl_toolkits.mplot3d.art3d import Poly3DCollection  # type: ignore[import-untyped]

from kreludomain.analysis.reachable import NeuronPair, convex_hull, faces, relaxation_vertices, volume
from kreludomain.run.output.figures import figure_files
from kreludomain.run.show.config import GroupConfig
from kreludomain.run.show.plane_figure import DPI, EXACT, SETTINGS, Colours, palette

#: The names of relaxations that are not their own.
NAMES = {"deeppoly": "DeepPoly", "triangle": "triangles", "joint": "k-ReLU, k = 2"}

#: The size of a column and of the picture's margins, in inches.
COLUMN, LEFT, HEIGHT = 1.6, 0.52, 4.8

#: The direction from which the picture in space is seen, in degrees.
ELEVATION, AZIMUTH = 16, -112


def pair_figure(config: GroupConfig, pair: NeuronPair, found: Mapping[str, np.ndarray]) -> dict[str, bytes]:
    """``group.png`` and ``group.svg``: a column a relaxation, after that of ReLU itself.

    ``found``: the vertices ``(V, 4)`` of the relaxations by name. Above, the set of ``(x1, x2, w . y)`` that each
    allows, with the graph of ReLU in it and the octahedron on the floor; below, the same from the side: ``w . y`` over
    ``w . x``.
    """
    weights = np.array(config.weights)
    colours = [(EXACT, EXACT), *palette([kind == "joint" for kind in found])]
    pieces = [np.hstack([piece, np.maximum(piece, 0)]) for piece in pair.pieces()]
    ends = np.concatenate([_side_view(vertices, weights) for vertices in (*pieces, *found.values())])
    low, high = ends.min(0), ends.max(0)
    hull = volume(relaxation_vertices(pair, "joint"))
    width = LEFT + COLUMN * (len(found) + 1)
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(width, HEIGHT))
        for column, kind in enumerate([None, *found]):
            left, colour = LEFT + COLUMN * column, colours[column]
            vertices = None if kind is None else found[kind]
            box = ((left - 0.08) / width, 1.98 / HEIGHT, 1.66 / width, 2.25 / HEIGHT)
            solid = figure.add_axes(box, projection="3d", computed_zorder=False)
            _draw_solid(solid, vertices, pieces, weights, colour, pair, (low[1], high[1]))
            flat = figure.add_axes(((left + 0.06) / width, 0.46 / HEIGHT, 1.4 / width, 1.35 / HEIGHT))
            _draw_side(flat, vertices, pieces, weights, colour)
            pad = 0.06 * (high - low)
            flat.set(xlim=(low[0] - pad[0], high[0] + pad[0]), ylim=(low[1] - pad[1], high[1] + pad[1]))
            flat.set_xlabel(_sum("x", weights), fontsize=9, labelpad=1)
            flat.tick_params(labelsize=8, length=2.5, labelleft=column == 0)
            if column == 0:
                flat.set_ylabel(_sum("y", weights), fontsize=9, labelpad=1)
            middle, style = (left + 0.76) / width, dict[str, Any](ha="center", color=colour[1])
            name = "ReLU itself" if kind is None else NAMES.get(kind, kind)
            figure.text(middle, 4.22 / HEIGHT, name, style, fontsize=11, fontweight="bold")
            below = "seen from the side:" if kind is None else _relative_volume(volume(found[kind]), hull)
            figure.text(middle, 1.88 / HEIGHT, below, style, fontsize=9)
        title = config.title or f"All over the same octahedron $P$: the range of {_sum('y', weights)}"
        figure.text(0.5, 0.985, title, ha="center", va="top", fontsize=11)
        return figure_files("group", figure, DPI)


def _relative_volume(own: float, hull: float) -> str:
    """A set's volume in units of the convex hull's."""
    return "volume 1, the hull" if own <= hull * (1 + 1e-6) else f"volume {own / hull:.2f}"


def _sum(letter: str, weights: np.ndarray) -> str:
    """``x1 + x2`` with weights, as a formula."""
    terms = []
    for position, weight in enumerate(weights.tolist(), start=1):
        size = "" if abs(weight) == 1 else f"{abs(weight):g}"
        sign = "-" if weight < 0 else "+" if position > 1 else ""
        terms.append(f"{sign} {size}{letter}_{position}")
    return f"${' '.join(terms)}$"


def _body(vertices: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Points ``(x1, x2, w . y)``, ``(V, 3)``."""
    return np.column_stack([vertices[:, :2], vertices[:, 2:] @ weights])


def _side_view(vertices: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The hull of the points ``(w . x, w . y)``, ``(V, 2)``."""
    return convex_hull(np.column_stack([vertices[:, :2] @ weights, vertices[:, 2:] @ weights]))


def _draw_solid(
    axes: Any,  # three-dimensional axes have no types
    vertices: np.ndarray | None,
    pieces: Sequence[np.ndarray],
    weights: np.ndarray,
    colour: Colours,
    pair: NeuronPair,
    heights: tuple[float, float],
) -> None:
    """The octahedron on the floor, the back of the body, the graph of ReLU, the front of the body."""
    (a, b), (c, d) = pair.bounds.lower[0].tolist(), pair.bounds.upper[0].tolist()
    floor = heights[0] - 0.42 * (heights[1] - heights[0])
    square = np.array([[a, b, floor], [c, b, floor], [c, d, floor], [a, d, floor]])
    octagon = np.column_stack([pair.vertices, np.full(len(pair.vertices), floor)])
    axes.add_collection3d(Poly3DCollection([square], facecolors="#f4f4f4", edgecolors="#b0b0b0", linewidths=0.6))
    axes.add_collection3d(Poly3DCollection([octagon], facecolors="#d5d5d5", edgecolors="#808080", linewidths=0.6))
    span = np.array([c - a, d - b, heights[1] - floor])
    front, behind = ([], []) if vertices is None else _front_and_back(_body(vertices, weights), span)
    if behind:
        axes.add_collection3d(Poly3DCollection(behind, facecolors=colour[0], edgecolors=colour[1], linewidths=0.7))
    graph = [_body(piece, weights) for piece in pieces]
    axes.add_collection3d(Poly3DCollection(graph, facecolors="#3a3a3a", edgecolors="white", linewidths=0.6))
    if front:
        clear = (*to_rgb(colour[0]), 0.38)
        axes.add_collection3d(Poly3DCollection(front, facecolors=clear, edgecolors=colour[1], linewidths=0.9))
    axes.set(xlim=(a, c), ylim=(b, d), zlim=(floor, heights[1]))
    axes.view_init(elev=ELEVATION, azim=AZIMUTH)
    axes.set_axis_off()
    axes.set_box_aspect((1, 1, 1.25), zoom=1.13)
    if vertices is None:
        axes.text((a + c) / 2, b - 0.1 * (d - b), floor, "$x_1$", fontsize=9, ha="center", va="top")
        axes.text(a - 0.06 * (c - a), (b + d) / 2, floor, "$x_2$", fontsize=9, ha="right", va="center")
        axes.text((a + c) / 2, (b + d) / 2, floor, "$P$", fontsize=9, ha="center", va="center")


def _front_and_back(body: np.ndarray, span: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The faces of a body that are seen, and those behind it; ``span``: the lengths of the axes."""
    e, z = np.radians(ELEVATION), np.radians(AZIMUTH)
    eye = np.array([np.cos(e) * np.cos(z), np.cos(e) * np.sin(z), np.sin(e)])
    front, behind = list[np.ndarray](), list[np.ndarray]()
    for face in faces(body):
        normal = np.linalg.svd(face - face.mean(0))[2][-1]
        outward = normal * np.sign(normal @ (face.mean(0) - body.mean(0))) * span  # as seen once the axes are scaled
        (front if outward @ eye > 0 else behind).append(face)
    return front, behind


def _draw_side(
    axes: Axes, vertices: np.ndarray | None, pieces: Sequence[np.ndarray], weights: np.ndarray, colour: Colours
) -> None:
    """The body as its shadow on the plane of ``w . x`` and ``w . y``, with that of ReLU's graph in it."""
    if vertices is not None:
        shape = _side_view(vertices, weights)
        axes.add_patch(Polygon(shape, closed=True, facecolor=colour[0], edgecolor=colour[1], linewidth=1.2))
    for piece in pieces:
        shape = _side_view(piece, weights)
        axes.add_patch(Polygon(shape, closed=True, facecolor="#3a3a3a", edgecolor="#3a3a3a", linewidth=0.5))
