"""Draws the pipeline of docs/architecture.md: the packages, and the objects that pass between them.

python scripts/draw_architecture.py docs/images
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

BLUE, ORANGE, GREEN, GREY = "#2b6cb0", "#c05621", "#2f855a", "#4a5568"
SETTINGS: dict[Any, Any] = {"svg.hashsalt": "kreludomain", "font.size": 8.5, "svg.fonttype": "path"}
WIDTH, HEIGHT = 2.3, 1.15


@dataclass(frozen=True)
class Package:
    """A box of the picture: a package, its job in two lines, and where its lower left corner is."""

    name: str
    job: str
    x: float
    y: float
    colour: str = BLUE


PACKAGES = {
    package.name: package
    for package in (
        Package("network", "graph of operators;\nONNX, torch", 0.0, 4.0, GREY),
        Package("property", "regions, claims,\nVNN-LIB", 0.0, 2.0, GREY),
        Package("domain", "interval, zonotope,\nDeepPoly", 4.1, 3.0),
        Package("groups", "octahedra, vertices,\njoint hulls", 8.2, 4.0),
        Package("activations", "range, lines,\npolygon", 4.1, 4.9, GREY),
        Package("programs", "LP, MILP in matrix\nform, solvers", 8.2, 2.0),
        Package("bounding", "linear programs,\nvertex dual", 12.4, 3.0),
        Package("branching", "over neurons, inputs;\nmilp; rules", 16.5, 4.0),
        Package("attack", "PGD, replay in\nonnxruntime", 16.5, 2.0, ORANGE),
        Package("verify", "certify, decide,\ncomplete", 20.7, 3.0, GREEN),
        Package("analysis", "Lipschitz, invert,\nmoments, reachable", 12.4, 0.2, GREEN),
        Package("data", "tables, arrays,\nsamples", 16.5, -1.4, GREY),
        Package("run", "studies: tasks,\nrows, reports", 20.7, 0.2, GREEN),
    )
}

#: From, to, what passes, and how far the arrow bends.
ARROWS = (
    ("network", "domain", "Query", 0.0),
    ("property", "domain", "", 0.0),
    ("activations", "domain", "lines", 0.0),
    ("domain", "groups", "Abstraction", 0.0),
    ("domain", "programs", "LayerBounds", 0.0),
    ("groups", "bounding", "JointRelaxation", 0.0),
    ("programs", "bounding", "multipliers", 0.0),
    ("bounding", "branching", "LowerBounds", 0.0),
    ("bounding", "attack", "LayerBounds", 0.0),
    ("branching", "verify", "proof", 0.0),
    ("attack", "verify", "counterexample", 0.0),
    ("verify", "run", "Certificate", 0.0),
    ("bounding", "analysis", "LayerBounds", 0.0),
    ("analysis", "run", "rows", 0.0),
    ("data", "run", "Sample", 0.0),
)


def draw_box(axes: Axes, package: Package) -> None:
    """A package's box with its name and its job."""
    box = FancyBboxPatch(
        (package.x, package.y), WIDTH, HEIGHT, boxstyle="round,pad=0.04,rounding_size=0.12", linewidth=1.2
    )
    box.set(facecolor="white", edgecolor=package.colour)
    axes.add_patch(box)
    middle = package.x + WIDTH / 2
    axes.text(middle, package.y + 0.9, package.name, ha="center", va="center", weight="bold", color=package.colour)
    axes.text(middle, package.y + 0.38, package.job, ha="center", va="center", fontsize=7.5)


def draw_arrow(axes: Axes, start: Package, end: Package, label: str, bend: float) -> None:
    """An arrow from the side of one box to the side of another, with the name of the object that passes."""
    if abs(start.x - end.x) < WIDTH:  # one below the other
        x, below = start.x + WIDTH / 2, start.y > end.y
        points = ((x, start.y if below else start.y + HEIGHT), (x, end.y + HEIGHT if below else end.y))
    else:
        points = ((start.x + WIDTH + 0.05, start.y + HEIGHT / 2), (end.x - 0.07, end.y + HEIGHT / 2))
    style = {"arrowstyle": "-|>", "color": GREY, "linewidth": 1.0, "connectionstyle": f"arc3,rad={bend}"}
    axes.annotate("", xytext=points[0], xy=points[1], arrowprops=style)
    if label:
        (x0, y0), (x1, y1) = points
        axes.text((x0 + x1) / 2, (y0 + y1) / 2, label, ha="center", va="center", fontsize=6.5, color=GREY).set_bbox(
            {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        )


def draw(path: Path) -> None:
    """The whole picture, as an SVG file that is the same whenever it is drawn."""
    figure = Figure(figsize=(11.6, 4.4), layout="constrained")
    axes = figure.subplots()
    for start, end, label, bend in ARROWS:
        draw_arrow(axes, PACKAGES[start], PACKAGES[end], label, bend)
    for package in PACKAGES.values():
        draw_box(axes, package)
    axes.set(xlim=(-0.2, 23.2), ylim=(-1.6, 6.3))
    axes.set_axis_off()
    figure.savefig(path, metadata={"Date": None}, facecolor="white")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the picture goes")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(SETTINGS):
        draw(folder / "architecture.svg")


if __name__ == "__main__":
    main()
