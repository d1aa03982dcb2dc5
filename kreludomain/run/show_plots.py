"""The picture of reachable sets, one inside the other, and what it shares with that of two neurons.

Single-neuron methods are drawn in orange and joint ones in blue, looser ones lighter: colour-blind people can tell them
apart, and printed without colour, of each kind, the tighter set is the darker one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Polygon, Rectangle
from matplotlib.path import Path as Path2D

from kreludomain.analysis.reachable import ReachableSet, split, violations
from kreludomain.network import Network
from kreludomain.run.output.figures import save_figure
from kreludomain.run.show_config import PlaneShow, Side

if TYPE_CHECKING:
    from kreludomain.run.show import SetRow

#: From loose to tight: fills of one neuron at a time, and of groups; each with the colour of its outline and label.
SINGLE = (("#fdf0dc", "#b98a3e"), ("#fbdcae", "#b3741a"), ("#f5bf74", "#9c5b06"), ("#e9a040", "#7a4300"))
JOINT = (("#c3def0", "#5b9bcb"), ("#8dbde1", "#1f6aa5"), ("#2f72ab", "#062f55"))
TRUE = "#1b1b1b"
#: A set this many times larger than the smallest one, along either axis, is drawn in the overview only.
FOCUS = 2.6
#: The most points of a sampled truth that are drawn.
DOTS = 800
SETTINGS: dict[Any, Any] = {"font.size": 9.5, "axes.linewidth": 0.7}


# Reachable sets -------------------------------------------------------------------------------------------------------


def save_sets(folder: Path, config: PlaneShow, network: Network, found: ReachableSet, sets: Sequence[SetRow]) -> None:
    """Writes ``reach.png`` and ``reach.svg``: every set, and beside it the tighter ones where a set is far larger."""
    colours = palette([row.joint for row in sets])
    near = focus(sets)
    with matplotlib.rc_context(SETTINGS):
        if len(near) < len(sets):
            figure = Figure(figsize=(8, 4.6), layout="constrained")
            left, right = figure.subplots(1, 2, width_ratios=(1, 2.5))
            _draw(left, config, found, sets, colours, range(len(sets)), detail=False)
            _draw(right, config, found, sets, colours, near)
            _frame(left, right, [i for i in range(len(sets)) if i not in near], sets, colours)
        else:
            figure = Figure(figsize=(8, 5.2), layout="constrained")
            right = figure.subplots()
            _draw(right, config, found, sets, colours, near)
        labels = config.plane.labels or (_name(config, network, "x"), _name(config, network, "y"))
        right.set(xlabel=labels[0], ylabel=labels[1])
        figure.suptitle(config.title or "What each method says the outputs can be", fontsize=11)
        save_figure(figure, folder, "reach", dpi=200)


def palette(joint: Sequence[bool]) -> list[tuple[str, str]]:
    """Fill and line of each set, in order: the last shades of its kind, all of them stretched where they do not do."""
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


def focus(sets: Sequence[SetRow]) -> list[int]:
    """The sets that are not so large that the smallest would hardly be seen beside them."""
    sizes = np.array([np.ptp(row.polygon, axis=0) for row in sets])
    smallest = np.maximum(sizes.min(0), 1e-12 * max(float(sizes.max()), 1e-300))
    return np.flatnonzero((sizes <= FOCUS * smallest).all(1)).tolist() or [int(sizes.sum(1).argmin())]


def _draw(
    axes: Axes,
    config: PlaneShow,
    found: ReachableSet,
    sets: Sequence[SetRow],
    colours: Sequence[tuple[str, str]],
    chosen: Sequence[int],
    detail: bool = True,
) -> None:
    """The chosen sets, the larger below, the truth on top, and outlines over all of it."""
    shapes = [sets[i].polygon for i in chosen]
    low, high = (f([f(s, axis=0) for s in [*shapes, found.hull]], axis=0) for f in (np.min, np.max))
    pad = 0.05 * np.maximum(high - low, 1e-9)
    axes.set_xlim(low[0] - pad[0], high[0] + pad[0])
    axes.set_ylim(low[1] - pad[1], high[1] + pad[1])
    for i in sorted(chosen, key=lambda i: -sets[i].area):
        fill, line = colours[i]
        axes.add_patch(Polygon(sets[i].polygon, closed=True, facecolor=fill, edgecolor="none"))
        axes.add_patch(Polygon(sets[i].polygon, closed=True, fill=False, edgecolor=line, linewidth=1.1, zorder=4))
    if found.exact:
        axes.add_collection(PolyCollection(found.pieces, facecolors=TRUE, edgecolors=TRUE, linewidths=0.3, zorder=3))
        axes.add_patch(
            Polygon(found.hull, closed=True, fill=False, edgecolor=TRUE, linewidth=0.8, linestyle=(0, (3, 2)), zorder=5)
        )
    else:
        axes.add_patch(Polygon(found.hull, closed=True, facecolor="#4d4d4d", edgecolor=TRUE, linewidth=0.8, zorder=3))
        axes.add_patch(_dots(found.points, float(high[0] - low[0])))
    axes.tick_params(labelsize=8.5, length=3)
    for side in config.unsafe:
        _unsafe(axes, side, shapes, detail)
    if detail:
        names = [(sets[i].method, sets[i].polygon, colours[i][1]) for i in chosen]
        what = "what the network\nreally does" if found.exact else "hull of sampled\noutputs"
        _labels(axes, [*names, (what, found.hull, TRUE)])


def _dots(points: np.ndarray, width: float) -> PathPatch:
    """At most ``DOTS`` of the points as one path: a picture of as many markers is ten times the file."""
    some = points[:: -(-len(points) // DOTS)]
    ends = np.stack([some, some + np.array([2e-3 * width, 0.0])], axis=1).reshape(-1, 2)
    path = Path2D(ends, [Path2D.MOVETO, Path2D.LINETO] * len(some))
    path.should_simplify = False
    return PathPatch(path, fill=False, edgecolor="white", linewidth=0.9, capstyle="round", alpha=0.55, zorder=3)


def _unsafe(axes: Axes, side: Side, shapes: Sequence[np.ndarray], detail: bool) -> None:
    """A half-plane ``x X + y Y <= at``: hatched, its edge drawn, its meaning written along it."""
    normal, (x, y) = np.array([side.x, side.y]), (axes.get_xlim(), axes.get_ylim())
    window = np.array([[x[0], y[0]], [x[1], y[0]], [x[1], y[1]], [x[0], y[1]]])
    part, _ = split(window, window @ normal - side.at)
    if len(part) < 3:
        return
    if detail:
        axes.add_patch(
            Polygon(part, closed=True, facecolor="none", edgecolor="#00000040", hatch="////", linewidth=0, zorder=6)
        )
    on_line = part[np.abs(part @ normal - side.at) < 1e-9 * (1 + np.abs(part @ normal).max())]
    if len(on_line) >= 2:
        axes.plot(*on_line[[0, -1]].T, color="black", linewidth=1.6 if detail else 0.7, zorder=6)
    if detail:
        text = axes.annotate(
            side.label,
            _free_place(part, shapes, upright := abs(side.x) > abs(side.y)),
            ha="center",
            va="center",
            rotation=90 if upright else 0,
            fontsize=9,
            zorder=9,
        )
        text.set_path_effects([patheffects.withStroke(linewidth=3, foreground="white")])


def _free_place(part: np.ndarray, shapes: Sequence[np.ndarray], upright: bool) -> tuple[float, float]:
    """Where a label goes in a part of the window: along its longer middle line, as far from the sets as can be."""
    low, high = part.min(0), part.max(0)
    t = np.linspace(0.2, 0.8, 13)[:, None]
    along = np.array([0.0, 1.0]) if upright else np.array([1.0, 0.0])
    places = (low + high) / 2 * (1 - along) + (low + t * (high - low)) * along
    away = np.min([violations(shape, places) for shape in shapes], axis=0)
    x, y = places[int(away.argmax())].tolist()
    return x, y


def _labels(axes: Axes, names: Sequence[tuple[str, np.ndarray, str]]) -> None:
    """Names in a column right of the picture, each with a thin line to its set, in an order that lines do not cross."""
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    scale = np.array([x1 - x0, y1 - y0])
    cut_nodes = []
    for position, (_, shape, _) in enumerate(names):
        inner = [other for _, other, _ in names[position + 1 :]]
        cut_nodes.append(_anchor(shape / scale, [other / scale for other in inner]) * scale)
    order = np.argsort([-anchor[1] for anchor in cut_nodes])
    heights = np.linspace(0.93, 0.07, len(names)) if len(names) > 1 else np.array([0.5])
    for place, i in zip(heights, order, strict=True):
        name, _, colour = names[i]
        axes.annotate(
            name,
            cut_nodes[i],
            xytext=(1.03, place),
            textcoords="axes fraction",
            color=colour,
            va="center",
            fontsize=9.5,
            fontweight="bold",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.8,
                "shrinkA": 2,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
            zorder=8,
        )
        axes.plot(
            *cut_nodes[i], "o", color=colour, markersize=3.5, markeredgecolor="white", markeredgewidth=0.6, zorder=8
        )


def _anchor(shape: np.ndarray, inner: Sequence[np.ndarray]) -> np.ndarray:
    """A point of a polygon's outline, in its right half, as far from the outlines of the sets inside as can be."""
    t = np.linspace(0, 1, 12, endpoint=False)[:, None, None]
    outline = (shape * (1 - t) + np.roll(shape, -1, axis=0) * t).reshape(-1, 2)
    right = outline[outline[:, 0] >= shape[:, 0].min() + 0.6 * np.ptp(shape[:, 0])]
    if not inner:
        return right[int(right[:, 0].argmax())]
    others = np.concatenate(inner)
    nearest = np.linalg.norm(right[:, None] - others[None], axis=2).min(1)
    best: np.ndarray = right[int(nearest.argmax())]
    return best


def _frame(
    left: Axes, right: Axes, large: Sequence[int], sets: Sequence[SetRow], colours: Sequence[tuple[str, str]]
) -> None:
    """In the overview: the window of the picture beside it, and the names of the sets that are only here."""
    (x0, x1), (y0, y1) = right.get_xlim(), right.get_ylim()
    left.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor="black", linewidth=0.8, zorder=9))
    for i in large:
        low, high = sets[i].polygon.min(0), sets[i].polygon.max(0)
        top = sets[i].polygon[int(sets[i].polygon[:, 1].argmax())]
        place = top + 0.18 * ((low + high) / 2 - top)
        text = left.text(
            float(place[0]),
            float(place[1]),
            sets[i].method,
            ha="center",
            va="center",
            fontweight="bold",
            color=colours[i][1],
            zorder=10,
        )
        text.set_path_effects([patheffects.withStroke(linewidth=3, foreground=colours[i][0])])
    left.set_xlabel("all sets; the frame is\nthe picture on the right", fontsize=8.5)


def _name(config: PlaneShow, network: Network, key: str) -> str:
    """An axis' name where none is given."""
    given = getattr(config.plane, key)
    node = config.plane.node
    values = "output" if node is None else f"{node}"
    if isinstance(given, int):
        return f"{values} {given}"
    weights = given.items() if isinstance(given, Mapping) else enumerate(given)
    terms = [f"{'+' if w > 0 else '-'} {'' if abs(w) == 1 else f'{abs(w):g} '}{values} {p}" for p, w in weights if w]
    return " ".join(terms[:4]).removeprefix("+ ") + (" ..." if len(terms) > 4 else "")
