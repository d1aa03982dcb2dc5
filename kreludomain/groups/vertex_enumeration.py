"""Vertex enumeration: the vertices of polytopes cut by the coordinate planes, along their edges.

All polytopes are ``lower <= D x <= upper`` with the same normals ``D``. From a vertex, every line in which k - 1 of the
planes through it meet is clipped against all half-spaces; the points where it enters the polytope, leaves it, and
crosses a coordinate plane in between are vertices again (Dyer, *The complexity of vertex enumeration methods*,
Mathematics of Operations Research 8, 1983). The graph of a polytope is connected, so is that of each of its slices by
coordinate planes, and edges of the polytope cross into every slice: so each vertex is reached from any other. The work
is in proportion to the number of vertices; to try every line is not.

Three things keep rounding from hiding a vertex. A line is computed from its planes alone, exactly in its direction, so
that no error is carried from one vertex to the next. A plane passes through a vertex when it is within
``INCIDENCE_TOL``, which is far more than the distance of points that count as one: a point stands for all that were
merged with it, and may try lines too many, never too few. And lines are compared by their planes, in whole numbers, so
that each is clipped once.

The vertices of all polytopes are found together, one generation after the other, in lists of varying length: columns
are vertices or lines, ``owner`` has the polytope of each.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: A plane this near to a vertex passes through it, and a line may miss a half-space by as much.
INCIDENCE_TOL = 1e-11
#: The side of the cells in which points count as one.
MERGE_TOL = 1e-13


@dataclass(frozen=True, eq=False)
class Arrangement:
    """``G`` polytopes ``lower <= directions @ x <= upper``, with bounds ``(D, G)`` of magnitude one, about.

    ``directions`` ``(D, k)`` are small whole numbers; the first k are the axes.
    """

    directions: Floats
    lower: Floats
    upper: Floats

    @property
    def k(self) -> int:
        result: int = self.directions.shape[1]
        return result

    @property
    def planes(self) -> Floats:
        """Every plane's normal and, last, a zero, ``(k + 1, 2 D + k)``: at lower bounds, at upper bounds, coordinate
        planes."""
        normals = np.concatenate([self.directions.T, self.directions.T, np.eye(self.k)], axis=1)
        return np.concatenate([normals, np.zeros((1, normals.shape[1]))])

    @property
    def offsets(self) -> Floats:
        """The value of each plane's normal on the plane, ``(2 D + k, G)``."""
        return np.concatenate([self.lower, self.upper, np.zeros((self.k, self.lower.shape[1]))])


def enumerate_vertices(arrangement: Arrangement, start: Floats, memory_mb: int) -> tuple[Floats, Integers]:
    """All vertices ``(k, V)`` of the polytopes, and their owners ``(V,)``, sorted; ``start`` ``(k, G)`` is one of each.

    Lines are clipped in batches whose tables fit ``memory_mb`` MiB.
    """
    points, owner = start, np.arange(start.shape[1])
    most = max(1, memory_mb * 2**20 // (8 * 6 * len(arrangement.directions)))
    clipped, found = np.zeros(0, dtype=np.int64), []
    while len(owner):
        found.append((points, owner))
        keys = _not_in(_lines_through(arrangement, points, owner), clipped)
        clipped = np.sort(np.concatenate([clipped, keys]), kind="stable")
        ends = [_line_vertices(arrangement, keys[at : at + most]) for at in range(0, len(keys), most)]
        if not ends:
            break
        points, owner = _new_points(*_concatenated(ends), points, owner)
    return _distinct(*_concatenated(found))


def _concatenated(parts: list[tuple[Floats, Integers]]) -> tuple[Floats, Integers]:
    points, owners = zip(*parts, strict=True)
    return np.concatenate(points, axis=1), np.concatenate(owners)


def _lines_through(arrangement: Arrangement, points: Floats, owner: Integers) -> Integers:
    """The lines in which k - 1 planes through a point meet, as sorted keys: owner and planes as the digits of one
    number."""
    at = arrangement.directions @ points
    touching = np.concatenate(
        [
            at <= (arrangement.lower + INCIDENCE_TOL)[:, owner],
            at >= (arrangement.upper - INCIDENCE_TOL)[:, owner],
            np.abs(points) <= INCIDENCE_TOL,
        ]
    )
    bits = len(touching).bit_length()
    point, plane = np.nonzero(np.ascontiguousarray(touching.T))
    stop = np.cumsum(np.bincount(point, minlength=len(owner)))
    # Sets of planes of one point, in ascending order: each is continued by every later plane that leaves enough.
    keys, last, of = owner, np.concatenate([[0], stop[:-1]]) - 1, np.arange(len(owner))
    for missing in range(arrangement.k - 2, -1, -1):
        room = np.maximum(stop[of] - missing - 1 - last, 0)
        parent = np.repeat(np.arange(len(room)), room)
        last = np.arange(len(parent)) - np.repeat(np.cumsum(room) - room - last - 1, room)
        keys, of = keys[parent] << bits | plane[last], of[parent]
    keys = np.sort(keys)
    result: Integers = keys[np.concatenate([[True], keys[1:] != keys[:-1]])]
    return result


def _not_in(keys: Integers, clipped: Integers) -> Integers:
    """The sorted keys that are not among the other sorted ones."""
    if not len(clipped):
        return keys
    position = np.minimum(np.searchsorted(clipped, keys), len(clipped) - 1)
    result: Integers = keys[clipped[position] != keys]
    return result


def _line_vertices(arrangement: Arrangement, keys: Integers) -> tuple[Floats, Integers]:
    """The points where lines enter and leave their polytopes and cross coordinate planes inside, and their owners."""
    base, along, owner = _line_equations(arrangement, keys)
    enter, leave, valid = _clip(arrangement, base, along, owner)
    base, along, owner, enter, leave = base[:, valid], along[:, valid], owner[valid], enter[valid], leave[valid]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = -base / along
    axis, line = np.nonzero((along != 0) & (crossing > enter) & (crossing < leave))
    crossings = base[:, line] + crossing[axis, line] * along[:, line]
    crossings[axis, np.arange(len(line))] = 0.0
    points = np.concatenate([base + enter * along, base + leave * along, crossings], axis=1)
    points[np.abs(points) < MERGE_TOL / 2] = 0.0  # on a coordinate plane but for rounding
    return points, np.concatenate([owner, owner, owner[line]])


def _line_equations(arrangement: Arrangement, keys: Integers) -> tuple[Floats, Floats, Integers]:
    """A point of each line and its direction, ``(k, L)`` each, and its owner; planes that are dependent make no line.

    In homogeneous coordinates, where planes are vectors ``(normal, -offset)``, flats are exterior products: of k - 1
    planes the line, whose entries without the last coordinate are its direction; of k planes the point.
    """
    k, planes, offsets = arrangement.k, arrangement.planes, arrangement.offsets
    bits, owner, chosen = planes.shape[1].bit_length(), keys, []
    for _ in range(k - 1):
        chosen.append(owner & ((1 << bits) - 1))
        owner = owner >> bits
    flat = np.ones((1, len(keys)))
    for grade, plane in enumerate(chosen):
        vector = planes[:, plane]
        vector[-1] = -offsets[plane, owner]
        flat = _exterior(flat, vector, grade)
    place, sign = _direction_entries(k)
    along = flat[place] * sign[:, None]
    independent = (along != 0).any(0)
    flat, along, owner = flat[:, independent], along[:, independent], owner[independent]
    # The line's point nearest to the origin is where it meets the plane through the origin that is normal to it.
    normal = np.concatenate([along, np.zeros((1, along.shape[1]))])
    meeting = _exterior(flat, normal, k - 1)[::-1]  # entry i is the product without coordinate i
    meeting[1::2] *= -1
    return meeting[:k] / meeting[k], along, owner


def _exterior(flat: Floats, vector: Floats, grade: int) -> Floats:
    """The exterior product of ``flat`` ``(C(n, grade), L)`` and ``vector`` ``(n, L)``: ``(C(n, grade + 1), L)``."""
    of_flat, of_vector, sign = _exterior_table(len(vector), grade)
    terms = flat[of_flat] * vector[of_vector]
    terms *= sign[..., None]
    result: Floats = terms.sum(1)
    return result


@lru_cache(maxsize=64)
def _exterior_table(n: int, grade: int) -> tuple[Integers, Integers, Floats]:
    """For each entry of the product, in lexicographic order: factors' positions and signs, ``(entries, grade + 1)``."""
    position = {subset: i for i, subset in enumerate(itertools.combinations(range(n), grade))}
    subsets = np.array(list(itertools.combinations(range(n), grade + 1)), dtype=np.int64)
    rest = [[position[(*s[:i], *s[i + 1 :])] for i in range(grade + 1)] for s in subsets.tolist()]
    sign = np.broadcast_to(np.where(np.arange(grade, -1, -1) % 2, -1.0, 1.0), subsets.shape)
    return np.array(rest, dtype=np.int64), subsets, sign


@lru_cache(maxsize=8)
def _direction_entries(k: int) -> tuple[Integers, Floats]:
    """Which entries of k - 1 planes' product are the line's direction, axis by axis, and their signs, ``(k,)``."""
    position = {subset: i for i, subset in enumerate(itertools.combinations(range(k + 1), k - 1))}
    place = [position[tuple(j for j in range(k) if j != i)] for i in range(k)]
    return np.array(place, dtype=np.int64), np.where(np.arange(k) % 2, -1.0, 1.0)


def _clip(
    arrangement: Arrangement, base: Floats, along: Floats, owner: Integers
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Where lines ``base + t along`` enter and leave their polytopes, ``t`` ``(L,)`` each, and which meet them."""
    speed, at = arrangement.directions @ along, arrangement.directions @ base
    low, high = arrangement.lower[:, owner] - at, arrangement.upper[:, owner] - at
    # Divided by zero, what lies in a slab that it is parallel to enters at minus infinity and leaves at infinity.
    beside = (speed == 0) * INCIDENCE_TOL
    low -= beside
    high += beside
    with np.errstate(divide="ignore"):
        low /= speed
        high /= speed
    enter, leave = np.minimum(low, high).max(0), np.maximum(low, high, out=high).min(0)
    return enter, leave, enter <= leave + INCIDENCE_TOL


def _new_points(points: Floats, owner: Integers, before: Floats, owner_before: Integers) -> tuple[Floats, Integers]:
    """The different points of a generation that were not in the one before: lines clipped once reach no older one."""
    cells, old = _cells(points, owner), _cells(before, owner_before)
    bits = max(len(owner), len(owner_before)).bit_length()
    (key, order), (old_key, old_order) = _sorted_keys(cells, bits), _sorted_keys(old, bits)
    cells, old = cells[:, order], old[:, old_order]
    match = np.minimum(np.searchsorted(old_key, key), len(old_key) - 1)
    known = old_key[match] == key
    known[known] = (old[:, match[known]] == cells[:, known]).all(0)
    known[1:] |= _equal_to_next(cells)
    chosen = order[~known]
    return points[:, chosen], owner[chosen]


def _distinct(points: Floats, owner: Integers) -> tuple[Floats, Integers]:
    """The different points, each owner's together, in an order that does not depend on the others."""
    cells = _cells(points, owner)
    _, order = _sorted_keys(cells, len(owner).bit_length())
    order = order[np.concatenate([[True], ~_equal_to_next(cells[:, order])])]
    return points[:, order], owner[order]


def _equal_to_next(cells: Integers) -> NDArray[np.bool_]:
    result: NDArray[np.bool_] = (cells[:, 1:] == cells[:, :-1]).all(0)
    return result


def _cells(points: Floats, owner: Integers) -> Integers:
    """The cell of each point, and its owner, ``(k + 1, V)``."""
    return np.concatenate([np.rint(points / MERGE_TOL).astype(np.int64), owner[None]])


#: Odd multipliers, at random.
_MULTIPLIERS = np.random.default_rng(0).integers(0, 2**62, 64) * 2 + 1


def _sorted_keys(cells: Integers, bits: int) -> tuple[Integers, Integers]:
    """Keys of cells in order, and their positions, which take ``bits``.

    A key is the owner and, in what bits are left, a hash of the rest: it brings candidates together, and points are one
    when their cells are. With positions in the low bits keys are sorted by value, which is several times faster.
    """
    owner_bits = int(cells[-1].max()).bit_length()
    with np.errstate(over="ignore"):
        mixed = (_MULTIPLIERS[: len(cells) - 1] @ cells[:-1]).view(np.uint64)
    key = (mixed >> np.uint64(1 + owner_bits)).view(np.int64) | (cells[-1] << (63 - owner_bits))
    packed = np.sort((key >> bits << bits) | np.arange(len(key)))
    return packed >> bits, packed & ((1 << bits) - 1)
