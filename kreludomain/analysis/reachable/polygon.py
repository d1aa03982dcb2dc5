"""Convex polygons in the plane: corners counterclockwise, cut by half-planes, circumscribed about a set.

A convex set is the intersection of the half-planes ``d . p <= h(d)`` over all directions ``d``, where ``h(d)``, its
*support*, is the largest ``d . p`` over the set. Finitely many directions give a polygon around it, whatever the
directions are; which are asked next is what decides how close it comes (:func:`circumscribe`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kreludomain.errors import InputError

#: ``(m, 2)`` unit directions to ``(m,)`` supports: numbers that no ``d . p`` of the set exceeds.
Support = Callable[[np.ndarray], np.ndarray]

#: A half-plane that cuts off less than this of a polygon's size is left out: the polygon stays around the set.
_SLIVER = 1e-9
#: The directions asked first, evenly spaced.
FIRST = 16


@dataclass(frozen=True, eq=False)
class Circumscribed:
    """A polygon around a set, and what it was made from.

    ``corners`` ``(V, 2)``, counterclockwise. ``directions`` ``(m, 2)`` and ``supports`` ``(m,)`` are all that were
    asked. ``gap`` is how far a corner may at most stick out of the set, in units of the plane, as far as the supports
    are those of a convex set.
    """

    corners: np.ndarray
    directions: np.ndarray
    supports: np.ndarray
    gap: float

    @property
    def area(self) -> float:
        """The area of the polygon."""
        return area(self.corners)

    def support(self, direction: np.ndarray) -> float:
        """The largest ``direction . p`` over the polygon."""
        return float((self.corners @ direction).max())


def circumscribe(
    support: Support,
    accuracy: float = 1e-3,
    most: int = 200,
    first: np.ndarray | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Circumscribed:
    """A polygon around the set of these supports, whose corners stick out by ``accuracy`` of its size at most.

    It starts from evenly spaced directions and those of ``first`` ``(m, 2)``. Then every corner that may stick out is
    asked about, all in one batch: in the direction across the chord of its two neighbours. A corner that this does not
    cut off is one of the set itself and is never asked about again, and where two corners are the set's own, the chord
    between them is its edge; so a polygon is found exactly, with a few questions an edge. It ends early after ``most``
    directions, or when ``stop()`` says so; what there is then is around the set as well.

    Raises :class:`InputError` for supports that are not finite.
    """
    angles = 2 * np.pi * np.arange(FIRST) / FIRST
    given = np.zeros((0, 2)) if first is None else np.asarray(first, dtype=float).reshape(-1, 2)
    angles = np.unique(np.round(np.concatenate([angles, np.arctan2(given[:, 1], given[:, 0]) % (2 * np.pi)]), 12))
    directions, supports = np.zeros((0, 2)), np.zeros(0)
    while True:
        asked = _unit(angles)
        found = np.asarray(support(asked), dtype=float)
        if not np.isfinite(found).all():
            raise InputError("show: a bound is not finite, so the set has no outline")
        directions, supports = np.vstack([directions, asked]), np.concatenate([supports, found])
        corners, edges = _intersection(directions, supports)
        angles, gap = _questions(corners, edges, directions, accuracy)
        angles = angles[: max(0, most - len(supports))]
        if not len(angles) or stop():
            return Circumscribed(corners, directions, supports, gap)


def _unit(angles: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _intersection(directions: np.ndarray, supports: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners ``(V, 2)`` of the intersection of half-planes, and the half-plane of each edge, from corner to next."""
    reach = 4 * (np.abs(supports).max() + 1e-30)
    corners = reach * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    edges = np.full(4, -1)
    for position in range(len(supports)):
        normal, offset = directions[position], supports[position]
        size = float(np.ptp(corners, axis=0).max())
        above = corners @ normal - offset
        if above.max() <= _SLIVER * size:
            continue
        if above.min() >= 0:  # what remains is a point or a line, up to rounding: its nearest corners stay
            above = above - above.min()
        corners, edges = _cut(corners, edges, above, position)
    return corners, edges


def _cut(corners: np.ndarray, edges: np.ndarray, above: np.ndarray, label: int) -> tuple[np.ndarray, np.ndarray]:
    """The part where ``above <= 0``, with ``label`` for the new edge; ``above`` is linear along each edge."""
    points, names = [], []
    for i in range(len(corners)):
        j = (i + 1) % len(corners)
        if above[i] <= 0:
            points.append(corners[i])
            names.append(edges[i])
        if (above[i] <= 0) != (above[j] <= 0):
            t = above[i] / (above[i] - above[j])
            points.append(corners[i] + t * (corners[j] - corners[i]))
            names.append(label if above[i] <= 0 else edges[i])
    return np.array(points), np.array(names)


def split(corners: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A polygon's parts where a linear function with ``values`` ``(V,)`` at the corners is at most and at least 0."""
    names = np.zeros(len(corners), dtype=int)
    return _cut(corners, names, values, 0)[0], _cut(corners, names, -values, 0)[0]


def _questions(
    corners: np.ndarray, edges: np.ndarray, directions: np.ndarray, accuracy: float
) -> tuple[np.ndarray, float]:
    """Angles to ask next, those of the corners that may stick out furthest first, and how far that is."""
    size = float(np.ptp(corners, axis=0).max())
    before, after = np.roll(corners, 1, axis=0), np.roll(corners, -1, axis=0)
    start = np.arctan2(*directions[np.roll(edges, 1)].T[::-1])
    wedge = (np.arctan2(*directions[edges].T[::-1]) - start) % (2 * np.pi)
    known = (np.arctan2(directions[:, 1], directions[:, 0])[None, :] - start[:, None]) % (2 * np.pi)
    inside = (known > 1e-9) & (known < wedge[:, None] - 1e-9)
    chord = after - before
    length = np.linalg.norm(chord, axis=1)
    height = np.abs(chord[:, 0] * (corners - before)[:, 1] - chord[:, 1] * (corners - before)[:, 0])
    height = np.where(inside.any(1) | (length == 0), 0.0, height / np.where(length > 0, length, 1.0))
    across = (np.arctan2(-chord[:, 0], chord[:, 1]) - start) % (2 * np.pi)
    sensible = (across > 1e-6) & (across < wedge - 1e-6)
    across = np.where(sensible, across, wedge / 2)
    order = np.argsort(-height, kind="stable")
    order = order[height[order] > accuracy * size]
    return (start + across)[order] % (2 * np.pi), float(height.max(initial=0.0))


def area(corners: np.ndarray) -> float:
    """The area of a polygon ``(V, 2)``."""
    x, y = (corners - corners[0]).T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def outward(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How far points ``(N, 2)`` lie beyond a convex polygon's edges, ``(N,)``; below 0 inside, how deep.

    Of a polygon that is a point, or given as the two ends of a line, the distance.
    """
    along = np.roll(corners, -1, axis=0) - corners
    length = np.linalg.norm(along, axis=1)
    keep = length > 1e-12 * max(float(length.max()), 1e-300)
    if len(corners) < 3 or not length.any():
        start, end = corners[0], corners[-1]
        t = (points - start) @ (end - start) / max(float((end - start) @ (end - start)), 1e-300)
        distance: np.ndarray = np.linalg.norm(points - start - t.clip(0, 1)[:, None] * (end - start), axis=1)
        return distance
    normals = np.stack([along[keep, 1], -along[keep, 0]], axis=1) / length[keep, None]
    offsets = np.einsum("ei,ei->e", normals, corners[keep])
    heights: np.ndarray = (points @ normals.T - offsets).max(1)
    return heights
