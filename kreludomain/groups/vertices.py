"""The vertices of all pieces of octahedra.

On each orthant ``x -> (x, ReLU(x))`` is linear, so the joint relaxation of a group is the convex hull of the images of
the vertices of the octahedron's pieces, its intersections with the orthants. Such a vertex is a feasible point in which
k independent planes meet, of the octahedron's and the coordinate planes ``x_i = 0``.
:mod:`kreludomain.groups.vertex_enumeration` finds all of them from one; this module prepares its arguments: bounds
scaled to magnitude one, a point inside, a first vertex.

Tolerances lean outwards: a point too many costs precision, a missing one soundness. The octahedron is first widened by
``WIDENING_TOL``, which is far more than all rounding errors, and gives flat and single-point octahedra an interior.
Planes that shorter directions make redundant, or nearly so, are moved away, so that they cut off no slivers: many of an
octahedron's are redundant, and all of a box's but its sides.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from kreludomain.groups.octahedron import Octahedra, directions
from kreludomain.groups.vertex_enumeration import Arrangement, Floats, Integers, enumerate_vertices

#: How far each plane is moved out: this times the group's largest bound and the number of the direction's nonzeros.
WIDENING_TOL = 1e-9
#: An octahedron counts as empty after so many projections: where it is not, violations shrink at a rate that depends on
#: k alone.
MAX_PROJECTIONS = 1000
#: How many numbers the vertices and lines of a group take, about, for each direction and 9^k.
_NUMBERS = 2


def piece_vertices(octahedra: Octahedra, memory_mb: int = 64) -> Tensor:
    """The vertices of all pieces of each group's octahedron, ``(G, V, k)``, float64, on the octahedra's device.

    ``V`` is the largest number of any group; shorter lists are filled up with their own first vertex. A group whose
    octahedron is empty (bounds that contradict each other by more than rounding) gets the vertices of its box.
    ``memory_mb`` bounds the working memory. Raises ``ValueError`` where a neuron's own bounds are not finite.
    """
    k, count, device = octahedra.k, len(octahedra.groups), octahedra.lower.device
    if not count:
        return octahedra.lower.new_zeros(0, 1, k, dtype=torch.float64)
    d = directions(k).numpy()
    lower, upper = _finite(octahedra)
    scale = np.maximum(np.abs(lower), np.abs(upper)).max(0).clip(min=1e-30)
    lower, upper, inside = _with_interior_point(d, lower / scale, upper / scale)
    most = max(1, memory_mb * 2**20 // (8 * _NUMBERS * len(d) * 9**k))
    found = []
    for start in range(0, count, most):
        part = slice(start, start + most)
        arrangement = Arrangement(d, *_widened(d, lower[:, part], upper[:, part]))
        points, owner = enumerate_vertices(arrangement, _first_vertex(arrangement, inside[:, part]), memory_mb)
        found.append((points * scale[part][owner], owner + start))
    points, owner = (np.concatenate(v, axis=-1) for v in zip(*found, strict=True))
    return torch.from_numpy(_padded(points, owner, count)).to(device)


def _padded(points: Floats, owner: Integers, count: int) -> Floats:
    """Points ``(k, V)`` of sorted owners as one list an owner, ``(count, longest, k)``, filled up with its first."""
    length = np.bincount(owner, minlength=count)
    first, place = np.cumsum(length) - length, np.arange(length.max())
    chosen = first[:, None] + np.where(place < length[:, None], place, 0)
    return np.ascontiguousarray(points.T[chosen])


def _finite(octahedra: Octahedra) -> tuple[Floats, Floats]:
    """The bounds ``(D, G)``; those that are not finite are replaced by what the neurons' own bounds imply.

    Raises ``ValueError`` where a neuron's own bounds are not finite.
    """
    lower, upper = (v.double().cpu().numpy().T for v in (octahedra.lower, octahedra.upper))
    if np.isfinite(lower).all() and np.isfinite(upper).all():
        return lower, upper
    if not (np.isfinite(lower[: octahedra.k]).all() and np.isfinite(upper[: octahedra.k]).all()):
        raise ValueError("vertices: a neuron's bounds are not finite")
    low, high = _implied_by_axes(directions(octahedra.k).numpy(), lower, upper)
    return np.where(np.isfinite(lower), lower, low), np.where(np.isfinite(upper), upper, high)


def _implied_by_axes(d: Floats, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """The bounds ``(D, G)`` of all directions that follow from those of the axes."""
    k = d.shape[1]
    low, high = np.minimum(lower[:k], upper[:k]), np.maximum(lower[:k], upper[:k])
    positive, negative = d.clip(min=0), d.clip(max=0)
    return positive @ low + negative @ high, positive @ high + negative @ low


def _with_interior_point(d: Floats, lower: Floats, upper: Floats) -> tuple[Floats, Floats, Floats]:
    """The bounds ``(D, G)``, with those of the box for empty octahedra, and a point ``(k, G)`` inside the widened
    octahedra.

    The point starts in the middle of the bounds and is projected onto the half-space that it violates most, again and
    again (Agmon, *The relaxation method for linear inequalities*, Canadian Journal of Mathematics 6, 1954).
    """
    point = d.T @ (lower + upper) / (2 * 3 ** (d.shape[1] - 1))
    length = np.linalg.norm(d, axis=1)[:, None]
    left = np.arange(point.shape[1])
    for _ in range(MAX_PROJECTIONS):
        at = d @ point[:, left]
        below, above = (lower[:, left] - at) / length, (at - upper[:, left]) / length
        outside = np.maximum(below, above).max(0) > WIDENING_TOL / 2
        if not outside.any():
            return lower, upper, point
        left, below, above = left[outside], below[:, outside], above[:, outside]
        worst, each = np.maximum(below, above).argmax(0), np.arange(len(left))
        shift = np.where(below[worst, each] > above[worst, each], below[worst, each], -above[worst, each])
        point[:, left] += d.T[:, worst] / length[worst, 0] * shift
    low, high = _implied_by_axes(d, lower[:, left], upper[:, left])
    lower, upper = lower.copy(), upper.copy()
    lower[:, left], upper[:, left], point[:, left] = low, high, d.T @ (low + high) / (2 * 3 ** (d.shape[1] - 1))
    return lower, upper, point


def _widened(d: Floats, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """Bounds ``(D, G)`` moved out: all of them, and redundant ones by the same amount once more."""
    room = WIDENING_TOL * np.abs(d).sum(1)[:, None]
    lower, upper = lower - room, upper + room
    signed = np.concatenate([upper, -lower])  # of the directions and their opposites
    least = np.full_like(signed, np.inf)
    for whole, first, second in zip(*_decompositions(d.shape[1]), strict=True):
        least[whole] = np.minimum(least[whole], signed[first] + signed[second])
    signed = np.where(signed > least - WIDENING_TOL, least + WIDENING_TOL, signed)
    return -signed[len(d) :], signed[: len(d)]


@lru_cache(maxsize=8)
def _decompositions(k: int) -> tuple[list[int], list[int], list[int]]:
    """All ways to write a direction as a sum of two with disjoint supports: the positions of the three among
    ``[d, -d]``."""
    d = directions(k).long()
    both = [tuple(row) for row in torch.cat([d, -d]).tolist()]
    position = {row: i for i, row in enumerate(both)}
    found = set()
    for row in both:
        support = [i for i in range(k) if row[i]]
        for size in range(1, len(support)):
            for part in itertools.combinations(support, size):
                first = tuple(entry if i in part else 0 for i, entry in enumerate(row))
                second = tuple(0 if i in part else entry for i, entry in enumerate(row))
                found.add((position[row], *sorted((position[first], position[second]))))
    whole, first_parts, second_parts = zip(*sorted(found), strict=True) if found else ((), (), ())
    return list(whole), list(first_parts), list(second_parts)


def _first_vertex(arrangement: Arrangement, point: Floats) -> Floats:
    """A vertex of each polytope ``(k, G)``, from a point inside: onto a plane, along it onto the next, k times."""
    d, k, count = arrangement.directions, arrangement.k, point.shape[1]
    each = np.arange(count)
    along: Floats = np.repeat(np.eye(k)[:, :, None], count, axis=2)
    normals, offsets = np.zeros((count, k, k)), np.zeros((count, k))
    for step in range(k):
        heading = along[(along**2).sum(1).argmax(0), :, each].T
        speed, at = d @ heading, d @ point
        ahead = np.where(speed > 0, arrangement.upper, arrangement.lower)
        with np.errstate(divide="ignore", invalid="ignore"):
            time = np.where(np.abs(speed) > 1e-9, (ahead - at) / speed, np.inf)
        first = time.argmin(0)
        normals[:, step], offsets[:, step] = d[first], ahead[first, each]
        point = point + heading * time[first, each]
        # The axes' projections onto the intersection of the planes.
        normal = np.einsum("ijg,gj->ig", along, normals[:, step])
        along -= normal[:, None] * normal[None] / (normal**2).sum(0)
    return np.linalg.solve(normals, offsets[..., None])[..., 0].T.astype(np.float64)
