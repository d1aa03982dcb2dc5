"""Two neurons and their relaxations: the sets of ``(x1, x2, y1, y2)`` that each allows for ``y = ReLU(x)``.

All of them are over the same octahedron ``P`` of pre-activations: what is compared is what each knows of ``y`` when it
knows all there is to know of ``x``. The joint relaxation is the convex hull of the graph over ``P`` (Singh et al.,
*Beyond the Single Neuron Convex Barrier*, NeurIPS 2019), so no convex set is tighter. The others take each neuron by
itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linprog
from scipy.spatial import ConvexHull, HalfspaceIntersection, QhullError
from torch import Tensor

from kreludomain.domain import Abstraction, Bounds
from kreludomain.domain.relu import linear_relu
from kreludomain.errors import InputError
from kreludomain.groups import Octahedra, directions, implied_by_box, lifted, octahedra, piece_vertices

_FLAT = "group: the octahedron has no inside, so there is nothing to show"


@dataclass(frozen=True, eq=False)
class Pair:
    """Two unstable neurons and the octahedron of their pre-activations (one group, ``k = 2``).

    Raises :class:`InputError` for another number of neurons, for a stable neuron (every relaxation is exact there), and
    for an octahedron without inside.
    """

    octahedron: Octahedra

    def __post_init__(self) -> None:
        if tuple(self.octahedron.groups.shape) != (1, 2):
            raise InputError("group: two neurons are expected")
        for position, (low, high) in enumerate(zip(*(v[0, :2].tolist() for v in self._sides), strict=True)):
            if not low < 0 < high:
                raise InputError(f"group: neuron {position + 1} has bounds {low:g}, {high:g}; 0 should be between them")
        # Where bounds contradict each other, there are vertices all the same: those of the box.
        points = self.vertices
        slack = 1e-6 * float(points.abs().max())
        contradict = not bool(self.octahedron.contains(points[:, None], slack).all())
        corners = self.corners
        if (
            contradict
            or len(corners) < 3
            or np.linalg.svd(corners - corners.mean(0))[1][-1] < 1e-6 * np.abs(corners).max()
        ):
            raise InputError(_FLAT)

    @classmethod
    def of(
        cls,
        lower: Sequence[float],
        upper: Sequence[float],
        total: Sequence[float] | None = None,
        difference: Sequence[float] | None = None,
    ) -> Pair:
        """The octahedron of ``lower <= x <= upper`` and bounds of ``x1 + x2`` and ``x1 - x2`` (not given: none)."""
        low, high = (torch.tensor([list(v)], dtype=torch.float64) for v in (lower, upper))
        if low.shape != (1, 2) or high.shape != (1, 2):
            raise InputError("group: two lower and two upper bounds are expected")
        implied = implied_by_box(torch.tensor([[0, 1]]), low, high)
        sides = [list(zip(implied.lower[0].tolist(), implied.upper[0].tolist(), strict=True))[i] for i in (2, 3)]
        given = [side if own is None else tuple(own) for side, own in zip(sides, (total, difference), strict=True)]
        if any(len(side) != 2 or not side[0] < side[1] for side in given):
            raise InputError("group: bounds of a sum or a difference are a lower and a larger upper number")
        joint = torch.tensor([given], dtype=torch.float64)
        whole = Octahedra(
            implied.groups,
            torch.cat([low, joint[:, :, 0]], dim=1),
            torch.cat([high, joint[:, :, 1]], dim=1),
        )
        return cls(whole & implied)

    @classmethod
    def neurons(cls, abstraction: Abstraction, node: str, first: int, second: int) -> Pair:
        """The octahedron that an abstraction (of one region) gives of two neurons of a pre-activation node.

        Raises :class:`InputError` for a node that no ReLU takes, and for neurons that do not exist or are the same.
        """
        network = abstraction.network
        if not network.feeds_relu(node):
            taken = sorted(name for name in network.pre_activations if network.feeds_relu(name))
            raise InputError(f"group: no ReLU takes node '{node}'; one takes {', '.join(taken) or 'none'}")
        size = network.size(node)
        if first == second or not (0 <= first < size and 0 <= second < size):
            raise InputError(f"group: neurons {first} and {second}: two different ones below {size} are expected")
        found = octahedra(abstraction, node, torch.tensor([[first, second]]))
        return cls(Octahedra(found.groups, found.lower.cpu().double(), found.upper.cpu().double()))

    @property
    def _sides(self) -> tuple[Tensor, Tensor]:
        return self.octahedron.lower, self.octahedron.upper

    @property
    def bounds(self) -> Bounds:
        """The neurons' own bounds, ``(1, 2)``."""
        return Bounds(self.octahedron.lower[:, :2], self.octahedron.upper[:, :2])

    @property
    def vertices(self) -> Tensor:
        """The vertices of the pieces, ``(V, 2)``: the octahedron cut by every quadrant."""
        points = piece_vertices(self.octahedron)[0]
        cell = 1e-7 * points.abs().max()  # the octahedron is widened first, so that some corners come in twos
        _, first = np.unique((points / cell).round().numpy(), axis=0, return_index=True)
        return points[torch.from_numpy(first)]

    @property
    def corners(self) -> np.ndarray:
        """The corners of the octahedron, ``(V, 2)``, counterclockwise."""
        return ordered(self.vertices.numpy())

    def pieces(self) -> list[np.ndarray]:
        """The octahedron's part in each quadrant, corners ``(V, 2)`` counterclockwise; ReLU is linear on each."""
        points, slack = self.vertices.numpy(), 1e-7 * float(self.vertices.abs().max())
        quadrants = ((points @ np.diag(signs) >= -slack).all(1) for signs in ((1, 1), (-1, 1), (-1, -1), (1, -1)))
        return [ordered(points[inside]) for inside in quadrants if inside.sum() > 2]


#: ``normals @ (x, y) <= offsets``, ``(F, 4)`` and ``(F,)``.
Rows = tuple[np.ndarray, np.ndarray]


def _lines(lower_slope: str) -> Callable[[Pair], Rows]:
    """One line below and the chord above each neuron."""

    def rows(pair: Pair) -> Rows:
        step = linear_relu(pair.bounds, lower_slope)
        low, high, intercept = (v[0].numpy() for v in (step.lower_slope, step.upper_slope, step.intercept))
        eye = np.eye(2)
        return (
            np.vstack([np.hstack([np.diag(low), -eye]), np.hstack([-np.diag(high), eye])]),
            np.concatenate([np.zeros(2), intercept]),
        )

    return rows


def _box(pair: Pair) -> Rows:
    """``0 <= y <= u``."""
    zero, eye = np.zeros((2, 2)), np.eye(2)
    rows = np.vstack([np.hstack([zero, -eye]), np.hstack([zero, eye])])
    return rows, np.concatenate([np.zeros(2), pair.bounds.upper[0].numpy()])


def _triangles(pair: Pair) -> Rows:
    """``y >= 0``, ``y >= x``, and the chord."""
    (zero, above), (offset, intercept) = zip(_box(pair), _lines("area")(pair), strict=True)
    eye = np.eye(2)
    return np.vstack([zero[:2], np.hstack([eye, -eye]), above[2:]]), np.concatenate(
        [offset[:2] * 0, np.zeros(2), intercept[2:]]
    )


#: What a relaxation of single neurons knows of ``y``, by name.
SINGLE: dict[str, Callable[[Pair], Rows]] = {
    "interval": _box,
    "zonotope": _lines("parallel"),
    "deeppoly": _lines("area"),
    "triangle": _triangles,
}
#: All relaxations of a pair by name, loosest first.
RELAXATIONS = (*SINGLE, "joint")


def relaxed(pair: Pair, kind: str) -> np.ndarray:
    """The corners ``(V, 4)`` of the set of ``(x1, x2, y1, y2)`` that a relaxation allows over the octahedron."""
    if kind == "joint":
        return lifted(pair.vertices).numpy()
    if kind not in SINGLE:
        raise InputError(f"group: '{kind}' is not one of {', '.join(RELAXATIONS)}")
    rows, offsets = SINGLE[kind](pair)
    d = np.hstack([directions(2).numpy(), np.zeros((4, 2))])
    o = pair.octahedron
    rows = np.vstack([rows, d, -d])
    offsets = np.concatenate([offsets, o.upper[0].numpy(), -o.lower[0].numpy()])
    return _corners(rows, offsets)


def _corners(rows: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The corners of a bounded polytope with an inside, from its half-spaces."""
    length = np.linalg.norm(rows, axis=1)
    centre = linprog(
        [*np.zeros(rows.shape[1]), -1.0],
        np.hstack([rows, length[:, None]]),
        offsets,
        bounds=[*[(None, None)] * rows.shape[1], (0, None)],
    )
    try:
        found = HalfspaceIntersection(np.hstack([rows, -offsets[:, None]]), centre.x[:-1]).intersections
    except (QhullError, ValueError, TypeError):
        raise InputError(_FLAT) from None
    kept: np.ndarray = np.unique(np.round(found[np.isfinite(found).all(1)], 12), axis=0)
    return kept


def volume(corners: np.ndarray) -> float:
    """The volume of the hull of points ``(V, n)``; 0 for flat ones."""
    try:
        return float(ConvexHull(corners).volume)
    except QhullError:
        return 0.0


def faces(points: np.ndarray) -> list[np.ndarray]:
    """The faces of the hull of points ``(V, 3)`` as flat polygons, ``(corners, 3)`` each."""
    try:
        hull = ConvexHull(points)
    except QhullError:
        raise InputError(_FLAT) from None
    planes: dict[tuple[float, ...], set[int]] = {}
    scale = float(np.ptp(points, axis=0).max())
    for simplex, equation in zip(hull.simplices, hull.equations, strict=True):
        key = tuple(np.round(np.array([*equation[:3], equation[3] / scale]), 6) + 0.0)
        planes.setdefault(key, set()).update(simplex.tolist())
    polygons = []
    for key, members in planes.items():
        corners, normal = points[sorted(members)], np.array(key[:3])
        first = np.linalg.svd(normal[None])[2][1:]
        flat = (corners - corners.mean(0)) @ first.T
        polygons.append(corners[_around(flat)])
    return polygons


def ordered(points: np.ndarray) -> np.ndarray:
    """The corners of the hull of points ``(V, 2)``, counterclockwise; flat ones as they are."""
    try:
        return np.asarray(points[ConvexHull(points).vertices])
    except (QhullError, ValueError):
        return points


def _around(flat: np.ndarray) -> np.ndarray:
    """The order of corners ``(V, 2)`` of a convex polygon around its middle."""
    middle = flat - flat.mean(0)
    return np.argsort(np.arctan2(middle[:, 1], middle[:, 0]))
