"""Convex polygons in the plane, their vertices counterclockwise: cutting, area, hulls, and circumscribing a set.

A convex set is the intersection of the half-planes ``d . p <= h(d)`` over all directions ``d``. Its *support function*
``h(d)`` is the largest ``d . p`` over the set. Any finite number of directions gives a polygon that contains the set;
how tight it is depends on the directions, which :func:`circumscribe` chooses one batch after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from kreludomain.errors import InputError

#: ``(m, 2)`` unit directions ``d`` to ``(m,)`` upper bounds of ``d . p`` over the set.
SupportFunction = Callable[[np.ndarray], np.ndarray]

#: A half-plane that cuts off less than this of a polygon's size is left out: the polygon still contains the set.
_MIN_CUT = 1e-9
#: The number of evenly spaced directions that :func:`circumscribe` starts with.
INITIAL_DIRECTIONS = 16


@dataclass(frozen=True, eq=False)
class CircumscribedPolygon:
    """A polygon that contains a set, and the half-planes ``directions @ p <= supports`` that it is made of.

    ``vertices`` ``(V, 2)``, counterclockwise. ``directions`` ``(m, 2)``, of length one, and ``supports`` ``(m,)`` are
    all that were evaluated. ``gap``, in units of the plane, bounds the distance from a vertex to the set, if the
    supports are those of a convex set.
    """

    vertices: np.ndarray
    directions: np.ndarray
    supports: np.ndarray
    gap: float

    @property
    def area(self) -> float:
        """The area of the polygon."""
        return area(self.vertices)


def circumscribe(
    support: SupportFunction,
    accuracy: float = 1e-3,
    max_directions: int = 200,
    initial: np.ndarray | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> CircumscribedPolygon:
    """A polygon around the set with this support function; its gap is at most ``accuracy`` times its size.

    The first batch has evenly spaced directions and those of ``initial`` ``(m, 2)``. Each further batch has one
    direction for every vertex that may lie outside the set: the normal of the chord between its two neighbours. A
    vertex that this does not cut off belongs to the set and is not asked about again; where both neighbours belong to
    the set, the chord is an edge of it. So a polygon is found exactly, with two or three directions an edge. The search
    ends early after ``max_directions``, or when ``stop()`` is true between batches; the polygon contains the set then
    too.

    Raises :class:`InputError` where a value of the support function is not finite.
    """
    angles = 2 * np.pi * np.arange(INITIAL_DIRECTIONS) / INITIAL_DIRECTIONS
    given = np.zeros((0, 2)) if initial is None else np.asarray(initial, dtype=float).reshape(-1, 2)
    angles = np.unique(np.round(np.concatenate([angles, np.arctan2(given[:, 1], given[:, 0]) % (2 * np.pi)]), 12))
    directions, supports = np.zeros((0, 2)), np.zeros(0)
    while True:
        asked = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        found = np.asarray(support(asked), dtype=float)
        if not np.isfinite(found).all():
            raise InputError("show: a bound is not finite, so the set has no outline")
        directions, supports = np.vstack([directions, asked]), np.concatenate([supports, found])
        vertices, edges = _intersection(directions, supports)
        angles, gap = _next_angles(vertices, edges, directions, accuracy)
        angles = angles[: max(0, max_directions - len(supports))]
        if not len(angles) or stop():
            return CircumscribedPolygon(vertices, directions, supports, gap)


def _intersection(directions: np.ndarray, supports: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices ``(V, 2)`` of the intersection of half-planes, and the half-plane of each edge ``(V,)``.

    Edge ``i`` goes from vertex ``i`` to the next.
    """
    reach = 4 * (np.abs(supports).max() + 1e-30)
    vertices = reach * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    edges = np.full(4, -1)
    for position in range(len(supports)):
        normal, offset = directions[position], supports[position]
        size = float(np.ptp(vertices, axis=0).max())
        above = vertices @ normal - offset
        if above.max() <= _MIN_CUT * size:
            continue
        if above.min() >= 0:  # what remains is a point or a line, up to rounding: its nearest vertices stay
            above = above - above.min()
        vertices, edges = _cut(vertices, edges, above, position)
    return vertices, edges


def _cut(vertices: np.ndarray, edges: np.ndarray, above: np.ndarray, label: int) -> tuple[np.ndarray, np.ndarray]:
    """The part where ``above <= 0``, with ``label`` for the new edge; ``above`` is linear along each edge."""
    points, names = [], []
    for i in range(len(vertices)):
        j = (i + 1) % len(vertices)
        if above[i] <= 0:
            points.append(vertices[i])
            names.append(edges[i])
        if (above[i] <= 0) != (above[j] <= 0):
            t = above[i] / (above[i] - above[j])
            points.append(vertices[i] + t * (vertices[j] - vertices[i]))
            names.append(label if above[i] <= 0 else edges[i])
    return np.array(points), np.array(names)


def split(vertices: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A polygon's parts where a linear function with ``values`` ``(V,)`` at its vertices is at most and at least 0."""
    names = np.zeros(len(vertices), dtype=int)
    return _cut(vertices, names, values, 0)[0], _cut(vertices, names, -values, 0)[0]


def _next_angles(
    vertices: np.ndarray, edges: np.ndarray, directions: np.ndarray, accuracy: float
) -> tuple[np.ndarray, float]:
    """The angles to ask next, those of the vertices that may lie furthest outside first, and the largest distance."""
    size = float(np.ptp(vertices, axis=0).max())
    before, after = np.roll(vertices, 1, axis=0), np.roll(vertices, -1, axis=0)
    start = np.arctan2(*directions[np.roll(edges, 1)].T[::-1])
    wedge = (np.arctan2(*directions[edges].T[::-1]) - start) % (2 * np.pi)
    known = (np.arctan2(directions[:, 1], directions[:, 0])[None, :] - start[:, None]) % (2 * np.pi)
    inside = (known > 1e-9) & (known < wedge[:, None] - 1e-9)
    chord = after - before
    length = np.linalg.norm(chord, axis=1)
    height = np.abs(chord[:, 0] * (vertices - before)[:, 1] - chord[:, 1] * (vertices - before)[:, 0])
    height = np.where(inside.any(1) | (length == 0), 0.0, height / np.where(length > 0, length, 1.0))
    across = (np.arctan2(-chord[:, 0], chord[:, 1]) - start) % (2 * np.pi)
    sensible = (across > 1e-6) & (across < wedge - 1e-6)
    across = np.where(sensible, across, wedge / 2)
    order = np.argsort(-height, kind="stable")
    order = order[height[order] > accuracy * size]
    return (start + across)[order] % (2 * np.pi), float(height.max(initial=0.0))


def area(vertices: np.ndarray) -> float:
    """The area of a polygon ``(V, 2)``."""
    x, y = (vertices - vertices[0]).T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def convex_hull(points: np.ndarray) -> np.ndarray:
    """The vertices ``(V, 2)`` of the convex hull of points ``(N, 2)``, counterclockwise; of flat ones, both ends."""
    try:
        return np.asarray(points[ConvexHull(points).vertices])
    except (QhullError, ValueError):
        along = np.linalg.svd(points - points.mean(0))[2][0]
        height = points @ along
        return points[[int(height.argmin()), int(height.argmax())]]


def violations(vertices: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The largest violation ``(N,)`` of a convex polygon's half-planes by points ``(N, 2)``, in units of the plane.

    Negative inside: minus the distance to the nearest edge. For a polygon that is a point or a line segment, given by
    its ends, the distance to it.
    """
    along = np.roll(vertices, -1, axis=0) - vertices
    length = np.linalg.norm(along, axis=1)
    keep = length > 1e-12 * max(float(length.max()), 1e-300)
    if len(vertices) < 3 or not length.any():
        start, end = vertices[0], vertices[-1]
        t = (points - start) @ (end - start) / max(float((end - start) @ (end - start)), 1e-300)
        distance: np.ndarray = np.linalg.norm(points - start - t.clip(0, 1)[:, None] * (end - start), axis=1)
        return distance
    normals = np.stack([along[keep, 1], -along[keep, 0]], axis=1) / length[keep, None]
    offsets = np.einsum("ei,ei->e", normals, vertices[keep])
    heights: np.ndarray = (points @ normals.T - offsets).max(1)
    return heights


def nesting_violations(polygons: Sequence[np.ndarray]) -> list[float]:
    """For each convex polygon but the first, the largest violation of the one before it by its vertices.

    Negative where it lies strictly inside.
    """
    return [float(violations(outer, inner).max()) for outer, inner in pairwise(polygons)]
