"""Draws the pictures of docs/method.md, from what the code computes.

python scripts/draw_method.py docs/images
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kreludomain.analysis.reachable import NeuronPair, convex_hull, relaxation_vertices
from kreludomain.groups import sparse_cover

BLUE, ORANGE, GREY = "#2b6cb0", "#c05621", "#a0aec0"
QUADRANTS = ("#2b6cb0", "#6b46c1", "#2f855a", "#c05621")
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "kreludomain",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
TITLES = {"interval": "interval", "zonotope": "zonotope", "deeppoly": "DeepPoly", "triangle": "triangle"}


def left_open(kind: str, low: float, high: float) -> np.ndarray:
    """The corners of what a relaxation allows for ``(x, y)``, ``y = ReLU(x)``, ``low <= x <= high``."""
    return convex_hull(relaxation_vertices(NeuronPair.from_bounds((low, low), (high, high)), kind)[:, [0, 2]])


def draw_neuron(path: Path, low: float = -1.0, high: float = 1.5) -> None:
    """One neuron: what each relaxation leaves of the graph of ReLU."""
    figure = Figure(figsize=(7.2, 2.0), layout="constrained")
    for axes, (kind, title) in zip(figure.subplots(1, 4, sharey=True), TITLES.items(), strict=True):
        axes.fill(*left_open(kind, low, high).T, color=BLUE, alpha=0.3, linewidth=0)
        axes.plot([low, 0, high], [0, 0, high], color="black")
        axes.set(title=title, xlabel="x", xticks=[low, 0, high], xticklabels=["l", "0", "u"], aspect="equal")
    figure.axes[0].set(ylabel="y", yticks=[0, high], yticklabels=["0", "u"])
    save(figure, path)


def draw_pieces(path: Path) -> None:
    """Two neurons: an octahedron in its box, cut by the coordinate planes, with the vertices of its pieces."""
    pair = NeuronPair.from_bounds((-1.0, -1.5), (2.0, 1.5), total=(-1.6, 2.2), difference=(-1.4, 2.4))
    figure = Figure(figsize=(7.2, 2.9), layout="constrained")
    flat, groups = figure.subplots(1, 2, width_ratios=(1, 1.25))
    (left, below), (right, above) = (v[0].tolist() for v in (pair.bounds.lower, pair.bounds.upper))
    corners = np.array([[left, below], [right, below], [right, above], [left, above], [left, below]])
    flat.plot(*corners.T, color=GREY, linestyle="--", linewidth=1)
    for piece, colour in zip(pair.pieces(), QUADRANTS, strict=True):
        flat.fill(*piece.T, color=colour, alpha=0.3, linewidth=0)
    flat.axhline(0, color="black", linewidth=0.8)
    flat.axvline(0, color="black", linewidth=0.8)
    flat.plot(*pair.piece_vertices.numpy().T, "o", color="black", markersize=3.5)
    flat.set(title="an octahedron, its pieces, their vertices", xlabel="x1", ylabel="x2", aspect="equal")
    draw_groups(groups)
    save(figure, path)


def draw_groups(axes: Axes, partition_size: int = 9, k: int = 3, overlap: int = 1) -> None:
    """The groups of one partition of neurons, a row each."""
    cover = sparse_cover(partition_size, k, overlap)
    for row, group in enumerate(cover):
        axes.plot(group, [row] * len(group), "-o", color=BLUE, linewidth=1, markersize=4)
    axes.set(
        title=f"groups of {k} in a partition of {partition_size}, overlap {overlap}",
        xlabel="neuron, by the area of its triangle",
        ylabel="group",
        xticks=range(partition_size),
        xticklabels=range(1, partition_size + 1),
        yticks=range(len(cover)),
        yticklabels=range(1, len(cover) + 1),
    )
    axes.invert_yaxis()
    axes.grid(axis="x", color=GREY, alpha=0.4)


def save(figure: Figure, path: Path) -> None:
    """Writes an SVG file that is the same whenever it is drawn."""
    figure.savefig(path, metadata={"Date": None}, facecolor="white")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the pictures go")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(SETTINGS):
        draw_neuron(folder / "method_neuron.svg")
        draw_pieces(folder / "method_pieces.svg")


if __name__ == "__main__":
    main()
