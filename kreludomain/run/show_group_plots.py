"""The picture of two neurons: what each relaxation leaves open, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from mpl_toolkits.mplot3d.art3d import Poly3DCollection  # type: ignore[import-untyped]

from kreludomain.analysis.reachable import NeuronPair, convex_hull, faces, relaxation_vertices, volume
from kreludomain.run.output.figures import save_figure
from kreludomain.run.show_config import GroupShow
from kreludomain.run.show_plots import SETTINGS, TRUE, palette

NAMES = {
    "interval": "interval",
    "zonotope": "zonotope",
    "deeppoly": "DeepPoly",
    "triangle": "triangles",
    "joint": "k-ReLU, k = 2",
}


def save_group(folder: Path, config: GroupShow, pair: NeuronPair, found: Mapping[str, np.ndarray]) -> None:
    """Writes ``group.png`` and ``group.svg``: a column a relaxation, after that of ReLU itself.

    Above, what is left of ``(x1, x2, w . y)``, with the graph of ReLU in it and the octahedron on the floor; below, the
    same from the side: ``w . y`` over ``w . x``.
    """
    weights = np.array(config.weights)
    colours = palette([kind == "joint" for kind in found])
    pieces = [np.hstack([piece, np.maximum(piece, 0)]) for piece in pair.pieces()]
    sides = [_seen_from_the_side(corners, weights) for corners in (*pieces, *found.values())]
    low, high = np.concatenate(sides).min(0), np.concatenate(sides).max(0)
    best = volume(relaxation_vertices(pair, "joint"))
    columns = len(found) + 1
    with matplotlib.rc_context(SETTINGS):
        size = np.array([0.52 + 1.6 * columns, 4.8])
        figure = Figure(figsize=tuple(size))

        def inches(left: float, bottom: float, width: float, height: float) -> tuple[float, float, float, float]:
            return left / size[0], bottom / size[1], width / size[0], height / size[1]

        for column, kind in enumerate([None, *found]):
            left = 0.52 + 1.6 * column
            solid = figure.add_axes(inches(left - 0.08, 1.98, 1.66, 2.25), projection="3d", computed_zorder=False)
            flat = figure.add_axes(inches(left + 0.06, 0.46, 1.4, 1.35))
            corners = None if kind is None else found[kind]
            colour = (TRUE, TRUE) if kind is None else colours[column - 1]
            _solid(solid, corners, pieces, weights, colour, pair, (low[1], high[1]))
            _side(flat, corners, pieces, weights, colour)
            pad = 0.06 * (high - low)
            flat.set(xlim=(low[0] - pad[0], high[0] + pad[0]), ylim=(low[1] - pad[1], high[1] + pad[1]))
            flat.set_xlabel(_sum("x", weights), fontsize=9, labelpad=1)
            flat.tick_params(labelsize=8, length=2.5, labelleft=column == 0)
            if column == 0:
                flat.set_ylabel(_sum("y", weights), fontsize=9, labelpad=1)
            middle = (left + 0.76) / size[0]
            name = "ReLU itself" if kind is None else NAMES[kind]
            figure.text(middle, 4.22 / size[1], name, ha="center", fontsize=11, fontweight="bold", color=colour[1])
            said = "seen from the side:" if kind is None else _against(volume(found[kind]), best)
            figure.text(middle, 1.88 / size[1], said, ha="center", fontsize=9, color=colour[1])
        title = (
            config.title or f"All over the same octahedron $P$: what each relaxation allows for {_sum('y', weights)}"
        )
        figure.text(0.5, 0.985, title, ha="center", va="top", fontsize=11)
        save_figure(figure, folder, "group", dpi=200)


def _against(own: float, best: float) -> str:
    """A set's volume beside that of the convex hull, in words."""
    if best <= 0:
        return ""
    return "volume 1, the hull" if own <= best * (1 + 1e-6) else f"volume {own / best:.2f}"


def _sum(letter: str, weights: np.ndarray) -> str:
    """``x1 + x2`` with weights, as a formula."""
    terms = []
    for position, weight in enumerate(weights.tolist(), start=1):
        size = "" if abs(weight) == 1 else f"{abs(weight):g}"
        sign = "-" if weight < 0 else "+" if position > 1 else ""
        terms.append(f"{sign} {size}{letter}_{position}")
    return f"${' '.join(terms)}$"


def _body(corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.column_stack([corners[:, :2], corners[:, 2:] @ weights])


def _seen_from_the_side(corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return convex_hull(np.column_stack([corners[:, :2] @ weights, corners[:, 2:] @ weights]))


#: Where the picture in space is seen from, in degrees.
ELEVATION, AZIMUTH = 16, -112


def _solid(
    axes: Any,  # three-dimensional axes have no types
    corners: np.ndarray | None,
    pieces: Sequence[np.ndarray],
    weights: np.ndarray,
    colour: tuple[str, str],
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
    e, z = np.radians(ELEVATION), np.radians(AZIMUTH)
    eye = np.array([np.cos(e) * np.cos(z), np.cos(e) * np.sin(z), np.sin(e)])
    span = np.array([c - a, d - b, heights[1] - floor])
    front: list[np.ndarray] = []
    behind: list[np.ndarray] = []
    if corners is not None:
        shape = _body(corners, weights)
        middle = shape.mean(0)
        for face in faces(shape):
            normal = np.linalg.svd(face - face.mean(0))[2][-1]
            normal = normal * np.sign(normal @ (face.mean(0) - middle)) * span  # as seen once the axes are scaled
            (front if normal @ eye > 0 else behind).append(face)
    if behind:
        axes.add_collection3d(Poly3DCollection(behind, facecolors=colour[0], edgecolors=colour[1], linewidths=0.7))
    axes.add_collection3d(
        Poly3DCollection(
            [_body(piece, weights) for piece in pieces], facecolors="#3a3a3a", edgecolors="white", linewidths=0.6
        )
    )
    if front:
        axes.add_collection3d(
            Poly3DCollection(front, facecolors=(*to_rgb(colour[0]), 0.38), edgecolors=colour[1], linewidths=0.9)
        )
    axes.set(xlim=(a, c), ylim=(b, d), zlim=(floor, heights[1]))
    axes.view_init(elev=ELEVATION, azim=AZIMUTH)
    axes.set_axis_off()
    axes.set_box_aspect((1, 1, 1.25), zoom=1.13)
    if corners is None:
        axes.text((a + c) / 2, b - 0.1 * (d - b), floor, "$x_1$", fontsize=9, ha="center", va="top")
        axes.text(a - 0.06 * (c - a), (b + d) / 2, floor, "$x_2$", fontsize=9, ha="right", va="center")
        axes.text((a + c) / 2, (b + d) / 2, floor, "$P$", fontsize=9, ha="center", va="center")


def _side(
    axes: Axes,
    corners: np.ndarray | None,
    pieces: Sequence[np.ndarray],
    weights: np.ndarray,
    colour: tuple[str, str],
) -> None:
    """The body as its shadow on the plane of ``w . x`` and ``w . y``, with that of ReLU's graph in it."""
    if corners is not None:
        shape = _seen_from_the_side(corners, weights)
        axes.add_patch(Polygon(shape, closed=True, facecolor=colour[0], edgecolor=colour[1], linewidth=1.2))
    for piece in pieces:
        shape = _seen_from_the_side(piece, weights)
        axes.add_patch(Polygon(shape, closed=True, facecolor="#3a3a3a", edgecolor="#3a3a3a", linewidth=0.5))
