"""The picture of reachable sets, one inside the other, and the colours of both pictures of ``show``.

Single-neuron methods are drawn in orange and joint ones in blue, looser ones lighter: colour-blind people can tell them
apart, and printed without colour, of each kind, the tighter set is the darker one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.patches import PathPatch, Polygon, Rectangle
from matplotlib.path import Path

from kreludomain.analysis.reachable import ReachableSet, area, split, violations
from kreludomain.run.output.figures import figure_files, new_figure
from kreludomain.run.show.config import HalfPlane, PlaneConfig
from kreludomain.run.show.plane_rows import SetRow

#: The fill of a set, and the colour of its outline and label.
Colours = tuple[str, str]

#: From loose to tight: sets of one neuron at a time, and of groups.
SINGLE = (("#fdf0dc", "#b98a3e"), ("#fbdcae", "#b3741a"), ("#f5bf74", "#9c5b06"), ("#e9a040", "#7a4300"))
JOINT = (("#c3def0", "#5b9bcb"), ("#8dbde1", "#1f6aa5"), ("#2f72ab", "#062f55"))
EXACT = "#1b1b1b"
DPI = 200
SETTINGS: dict[Any, Any] = {"font.size": 9.5, "axes.linewidth": 0.7}
#: A set this many times larger than the smallest one, along either axis, is drawn in the overview only.
MAX_RATIO = 2.6
#: The most points of a sampled reachable set that are drawn.
MAX_POINTS = 800


@dataclass(frozen=True, eq=False)
class _DrawnSet:
    """A set with its colours."""

    name: str
    polygon: np.ndarray
    fill: str
    line: str


def sets_figure(
    config: PlaneConfig, labels: tuple[str, str], reachable: ReachableSet | None, rows: Sequence[SetRow]
) -> dict[str, bytes]:
    """``reach.png`` and ``reach.svg``: every set, and beside them the tighter ones where a set is far larger.

    ``labels`` are those of the axes. Rows without vertices are left out; nothing is drawn if that leaves nothing.
    """
    rows = [row for row in rows if row.vertices]
    if not rows and reachable is None:
        return {}
    colours = palette([row.joint for row in rows])
    sets = [_DrawnSet(row.name, row.polygon, *own) for row, own in zip(rows, colours, strict=True)]
    near = _comparable(sets)
    with matplotlib.rc_context(SETTINGS):
        if len(near) < len(sets):
            figure = new_figure(8, 4.6)
            left, main = figure.subplots(1, 2, width_ratios=(1, 2.5))
            _draw(left, config, reachable, sets, detail=False)
            _draw(main, config, reachable, near)
            _overview(left, main, [drawn for drawn in sets if drawn not in near])
        else:
            figure = new_figure(8, 5.2)
            main = figure.subplots()
            _draw(main, config, reachable, near)
        main.set(xlabel=labels[0], ylabel=labels[1])
        figure.suptitle(config.title or "The outputs that each method cannot rule out", fontsize=11)
        return figure_files("reach", figure, DPI)


def palette(joint: Sequence[bool]) -> list[Colours]:
    """The colours of each set, in order: the last shades of its kind, all of them stretched where there are too few."""
    colours = []
    for position, own in enumerate(joint):
        shades = JOINT if own else SINGLE
        same = [i for i, other in enumerate(joint) if other == own]
        place = same.index(position)
        if len(same) <= len(shades):
            colours.append(shades[len(shades) - len(same) + place])
        else:
            colours.append(shades[place * len(shades) // len(same)])
    return colours


def _comparable(sets: Sequence[_DrawnSet]) -> list[_DrawnSet]:
    """The sets that are not so large that the smallest would hardly be seen beside them."""
    if not sets:
        return []
    sizes = np.array([np.ptp(drawn.polygon, axis=0) for drawn in sets])
    smallest = np.maximum(sizes.min(0), 1e-12 * max(float(sizes.max()), 1e-300))
    chosen = np.flatnonzero((sizes <= MAX_RATIO * smallest).all(1)).tolist() or [int(sizes.sum(1).argmin())]
    return [sets[i] for i in chosen]


def _draw(
    axes: Axes, config: PlaneConfig, reachable: ReachableSet | None, sets: Sequence[_DrawnSet], detail: bool = True
) -> None:
    """The sets, larger ones below, the reachable set on top, and outlines over all of it; ``detail``: with names."""
    shapes = [drawn.polygon for drawn in sets]
    hulls = [] if reachable is None else [reachable.hull]
    low, high = (f([f(s, axis=0) for s in [*shapes, *hulls]], axis=0) for f in (np.min, np.max))
    pad = 0.05 * np.maximum(high - low, 1e-9)
    axes.set_xlim(low[0] - pad[0], high[0] + pad[0])
    axes.set_ylim(low[1] - pad[1], high[1] + pad[1])
    axes.tick_params(labelsize=8.5, length=3)
    for drawn in sorted(sets, key=lambda drawn: -area(drawn.polygon)):
        axes.add_patch(Polygon(drawn.polygon, closed=True, facecolor=drawn.fill, edgecolor="none"))
        axes.add_patch(Polygon(drawn.polygon, closed=True, fill=False, edgecolor=drawn.line, linewidth=1.1, zorder=4))
    if reachable is not None:
        _draw_reachable(axes, reachable, float(high[0] - low[0]))
    for side in config.unsafe:
        _draw_unsafe(axes, side, shapes, detail)
    if detail:
        names = [(drawn.name, drawn.polygon, drawn.line) for drawn in sets]
        if reachable is not None:
            what = "reachable set" if reachable.exact else "sampled outputs,\nand their hull"
            names.append((what, reachable.hull, EXACT))
        _draw_names(axes, names)


def _draw_reachable(axes: Axes, found: ReachableSet, width: float) -> None:
    """The linear pieces and their hull, or the hull of sampled points with at most ``MAX_POINTS`` of them."""
    if found.exact:
        axes.add_collection(PolyCollection(found.pieces, facecolors=EXACT, edgecolors=EXACT, linewidths=0.3, zorder=3))
        hull = {"fill": False, "linestyle": (0, (3, 2)), "zorder": 5}
        axes.add_patch(Polygon(found.hull, closed=True, edgecolor=EXACT, linewidth=0.8, **hull))
        return
    axes.add_patch(Polygon(found.hull, closed=True, facecolor="#4d4d4d", edgecolor=EXACT, linewidth=0.8, zorder=3))
    some = found.points[:: -(-len(found.points) // MAX_POINTS)]
    # One path of short strokes: a picture of as many markers is ten times the file.
    ends = np.stack([some, some + np.array([2e-3 * width, 0.0])], axis=1).reshape(-1, 2)
    path = Path(ends, [Path.MOVETO, Path.LINETO] * len(some))
    path.should_simplify = False
    stroke = dict[str, Any](edgecolor="white", linewidth=0.9, capstyle="round", alpha=0.55)
    axes.add_patch(PathPatch(path, fill=False, zorder=3, **stroke))


def _draw_unsafe(axes: Axes, side: HalfPlane, shapes: Sequence[np.ndarray], detail: bool) -> None:
    """A half-plane: its edge; with ``detail`` hatched, and its label where there is room."""
    normal, (x, y) = np.array([side.x, side.y]), (axes.get_xlim(), axes.get_ylim())
    window = np.array([[x[0], y[0]], [x[1], y[0]], [x[1], y[1]], [x[0], y[1]]])
    part, _ = split(window, window @ normal - side.at)
    if len(part) < 3:
        return
    on_edge = part[np.abs(part @ normal - side.at) < 1e-9 * (1 + np.abs(part @ normal).max())]
    if len(on_edge) >= 2:
        axes.plot(*on_edge[[0, -1]].T, color="black", linewidth=1.6 if detail else 0.7, zorder=6)
    if detail:
        hatched = {"facecolor": "none", "edgecolor": "#00000040", "hatch": "////", "linewidth": 0}
        axes.add_patch(Polygon(part, closed=True, zorder=6, **hatched))
        upright = abs(side.x) > abs(side.y)
        place = _free_place(part, shapes, upright)
        _outlined(axes, place, side.label, "white", fontsize=9, rotation=90 if upright else 0, zorder=9)


def _outlined(axes: Axes, place: tuple[float, float], text: str, outline: str, **style: Any) -> None:
    """Text around a place, with an outline that keeps it legible over anything."""
    written = axes.text(*place, text, ha="center", va="center", **style)
    written.set_path_effects([patheffects.withStroke(linewidth=3, foreground=outline)])


def _free_place(part: np.ndarray, shapes: Sequence[np.ndarray], upright: bool) -> tuple[float, float]:
    """The place for a label in a part of the window: on its longer middle line, as far from the sets as possible."""
    low, high = part.min(0), part.max(0)
    t = np.linspace(0.2, 0.8, 13)[:, None]
    along = np.array([0.0, 1.0]) if upright else np.array([1.0, 0.0])
    places = (low + high) / 2 * (1 - along) + (low + t * (high - low)) * along
    away = np.min([violations(shape, places) for shape in shapes], axis=0) if shapes else np.zeros(len(places))
    x, y = places[int(away.argmax())].tolist()
    return x, y


def _draw_names(axes: Axes, names: Sequence[tuple[str, np.ndarray, str]]) -> None:
    """Names in a column right of the picture, each with a thin line to its set, ordered so that no lines cross."""
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    scale = np.array([x1 - x0, y1 - y0])
    shapes = [shape / scale for _, shape, _ in names]
    anchors = [_anchor(shape, shapes[position + 1 :]) * scale for position, shape in enumerate(shapes)]
    heights = np.linspace(0.93, 0.07, len(names)) if len(names) > 1 else np.array([0.5])
    for height, i in zip(heights, np.argsort([-anchor[1] for anchor in anchors]), strict=True):
        name, _, colour = names[i]
        line = {"arrowstyle": "-", "color": colour, "linewidth": 0.8, "shrinkA": 2, "shrinkB": 0, "relpos": (0, 0.5)}
        style = dict[str, Any](color=colour, va="center", fontsize=9.5, fontweight="bold", arrowprops=line, zorder=8)
        place = dict[str, Any](xytext=(1.03, height), textcoords="axes fraction", annotation_clip=False)
        axes.annotate(name, anchors[i], **place, **style)
        dot = dict[str, Any](markersize=3.5, markeredgecolor="white", markeredgewidth=0.6, zorder=8)
        axes.plot(*anchors[i], "o", color=colour, **dot)


def _anchor(shape: np.ndarray, inner: Sequence[np.ndarray]) -> np.ndarray:
    """A point of a polygon's outline, in its right half, as far from the outlines of the sets inside as possible."""
    t = np.linspace(0, 1, 12, endpoint=False)[:, None, None]
    outline = (shape * (1 - t) + np.roll(shape, -1, axis=0) * t).reshape(-1, 2)
    right: np.ndarray = outline[outline[:, 0] >= shape[:, 0].min() + 0.6 * np.ptp(shape[:, 0])]
    away = np.linalg.norm(right[:, None] - np.concatenate(inner)[None], axis=2).min(1) if inner else right[:, 0]
    best: np.ndarray = right[int(away.argmax())]
    return best


def _overview(left: Axes, main: Axes, large: Sequence[_DrawnSet]) -> None:
    """In the overview: the window of the picture beside it, and the names of the sets that are only here."""
    (x0, x1), (y0, y1) = main.get_xlim(), main.get_ylim()
    left.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor="black", linewidth=0.8, zorder=9))
    for drawn in large:
        low, high = drawn.polygon.min(0), drawn.polygon.max(0)
        top = drawn.polygon[int(drawn.polygon[:, 1].argmax())]
        x, y = (top + 0.18 * ((low + high) / 2 - top)).tolist()
        _outlined(left, (x, y), drawn.name, drawn.fill, fontweight="bold", color=drawn.line, zorder=10)
    left.set_xlabel("all sets; the frame is\nthe picture on the right", fontsize=8.5)
