"""Relaxations of a pair of neurons: the sets of ``(x1, x2, y1, y2)`` that each allows for ``y = ReLU(x)``.

All relaxations are taken over the same octahedron ``P`` of pre-activations, so they differ in the constraints on ``y``
alone. The joint relaxation is the convex hull of the graph of ReLU over ``P`` (Singh et al., *Beyond the Single Neuron
Convex Barrier*, NeurIPS 2019), so no convex relaxation is tighter. The others constrain each neuron separately.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linprog
from scipy.spatial import ConvexHull, HalfspaceIntersection, QhullError
from torch import Tensor

from kreludomain.activations import Relu
from kreludomain.analysis.reachable.polygon import convex_hull
from kreludomain.domain import Abstraction, Bounds
from kreludomain.errors import InputError
from kreludomain.groups import Octahedra, directions, implied_by_box, lifted, octahedra, piece_vertices

_NO_INTERIOR = "group: the octahedron has no interior, so there is nothing to show"
#: An octahedron has no interior if its second principal width is below this share of its largest vertex.
_INTERIOR_TOL = 1e-6
#: Vertices closer than this share of the largest are one: octahedra are widened slightly, which doubles some of them.
_SAME_VERTEX_TOL = 1e-7

#: A polytope ``{z : rows @ z <= offsets}``, ``(F, n)`` and ``(F,)``.
HalfSpaces = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class NeuronPair:
    """Two unstable neurons and the octahedron of their pre-activations (one group, ``k = 2``).

    Raises :class:`InputError` for another number of neurons, for a stable neuron (every relaxation is exact there), and
    for an octahedron without interior.
    """

    octahedron: Octahedra

    def __post_init__(self) -> None:
        if tuple(self.octahedron.groups.shape) != (1, 2):
            raise InputError("group: two neurons are expected")
        ends = zip(self.bounds.lower[0].tolist(), self.bounds.upper[0].tolist(), strict=True)
        for position, (low, high) in enumerate(ends, start=1):
            if not low < 0 < high:
                raise InputError(f"group: neuron {position} has bounds {low:g}, {high:g}; 0 should be between them")
        # An empty octahedron has the vertices of its box, which violate its other bounds.
        points = self.piece_vertices
        slack = 1e-6 * float(points.abs().max())
        vertices = self.vertices
        if (
            not bool(self.octahedron.contains(points[:, None], slack).all())
            or len(vertices) < 3
            or np.linalg.svd(vertices - vertices.mean(0))[1][-1] < _INTERIOR_TOL * np.abs(vertices).max()
        ):
            raise InputError(_NO_INTERIOR)

    @classmethod
    def from_bounds(
        cls,
        lower: Sequence[float],
        upper: Sequence[float],
        total: Sequence[float] | None = None,
        difference: Sequence[float] | None = None,
    ) -> NeuronPair:
        """The octahedron of ``lower <= x <= upper`` and bounds of ``x1 + x2`` and ``x1 - x2`` (not given: none).

        Raises :class:`InputError` for another number of bounds, and for bounds that are not in order.
        """
        low, high = (torch.tensor([list(v)], dtype=torch.float64) for v in (lower, upper))
        if low.shape != (1, 2) or high.shape != (1, 2):
            raise InputError("group: two lower and two upper bounds are expected")
        implied = implied_by_box(torch.tensor([[0, 1]], dtype=torch.int64), low, high)
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
    def from_abstraction(cls, abstraction: Abstraction, node: str, first: int, second: int) -> NeuronPair:
        """The octahedron that an abstraction (of one region) gives for two neurons of a pre-activation node.

        Raises :class:`InputError` for a node that feeds no ReLU, and for neurons that do not exist or are the same.
        """
        network = abstraction.network
        if not network.feeds_relu(node):
            others = sorted(name for name in network.pre_activations if network.feeds_relu(name))
            raise InputError(f"group: node '{node}' feeds no ReLU; nodes that do: {', '.join(others) or 'none'}")
        size = network.size(node)
        if first == second or not (0 <= first < size and 0 <= second < size):
            raise InputError(f"group: neurons {first} and {second}: two different ones below {size} are expected")
        found = octahedra(abstraction, node, torch.tensor([[first, second]], dtype=torch.int64))
        return cls(Octahedra(found.groups, found.lower.cpu().double(), found.upper.cpu().double()))

    @property
    def bounds(self) -> Bounds:
        """The neurons' own bounds, ``(1, 2)``."""
        return Bounds(self.octahedron.lower[:, :2], self.octahedron.upper[:, :2])

    @property
    def piece_vertices(self) -> Tensor:
        """The vertices ``(V, 2)`` of all pieces: of the octahedron intersected with each quadrant."""
        points = piece_vertices(self.octahedron)[0]
        cell = _SAME_VERTEX_TOL * points.abs().max()
        _, first = np.unique((points / cell).round().numpy(), axis=0, return_index=True)
        return points[torch.from_numpy(first)]

    @property
    def vertices(self) -> np.ndarray:
        """The vertices of the octahedron, ``(V, 2)``, counterclockwise."""
        return convex_hull(self.piece_vertices.numpy())

    def pieces(self) -> list[np.ndarray]:
        """The octahedron's part in each quadrant, ``(V, 2)``, counterclockwise; ReLU is linear on each."""
        points = self.piece_vertices.numpy()
        slack = _SAME_VERTEX_TOL * float(np.abs(points).max())
        quadrants = ((points @ np.diag(signs) >= -slack).all(1) for signs in ((1, 1), (-1, 1), (-1, -1), (1, -1)))
        return [convex_hull(points[inside]) for inside in quadrants if inside.sum() > 2]


def _linear_bounds(lower_slope: str) -> Callable[[NeuronPair], HalfSpaces]:
    """For each neuron one linear lower bound, by its rule's name, and the chord above."""

    def rows(pair: NeuronPair) -> HalfSpaces:
        relaxation = Relu().relax(pair.bounds.lower, pair.bounds.upper, lower_slope)
        low, high, intercept = (
            v[0].numpy() for v in (relaxation.lower_slope, relaxation.upper_slope, relaxation.intercept)
        )
        eye = np.eye(2)
        return (
            np.vstack([np.hstack([np.diag(low), -eye]), np.hstack([-np.diag(high), eye])]),
            np.concatenate([np.zeros(2), intercept]),
        )

    return rows


def _interval(pair: NeuronPair) -> HalfSpaces:
    """``0 <= y <= u``."""
    zero, eye = np.zeros((2, 2)), np.eye(2)
    rows = np.vstack([np.hstack([zero, -eye]), np.hstack([zero, eye])])
    return rows, np.concatenate([np.zeros(2), pair.bounds.upper[0].numpy()])


def _triangles(pair: NeuronPair) -> HalfSpaces:
    """``y >= 0``, ``y >= x``, and the chord above."""
    (nonnegative, _), (chord, intercept) = _interval(pair), _linear_bounds("area")(pair)
    eye = np.eye(2)
    rows = np.vstack([nonnegative[:2], np.hstack([eye, -eye]), chord[2:]])
    return rows, np.concatenate([np.zeros(4), intercept[2:]])


#: The constraints on ``y`` of each single-neuron relaxation, by name.
_SINGLE_NEURON: dict[str, Callable[[NeuronPair], HalfSpaces]] = {
    "interval": _interval,
    "zonotope": _linear_bounds("parallel"),
    "deeppoly": _linear_bounds("area"),
    "triangle": _triangles,
}
#: The names of all relaxations of a pair, loosest first.
RELAXATIONS = (*_SINGLE_NEURON, "joint")


def relaxation_vertices(pair: NeuronPair, kind: str) -> np.ndarray:
    """The vertices ``(V, 4)`` of the set of ``(x1, x2, y1, y2)`` that a relaxation allows over the octahedron.

    Raises :class:`InputError` for a kind that is not in ``RELAXATIONS``.
    """
    if kind == "joint":
        return lifted(pair.piece_vertices).numpy()
    if kind not in _SINGLE_NEURON:
        raise InputError(f"group: '{kind}' is not one of {', '.join(RELAXATIONS)}")
    rows, offsets = _SINGLE_NEURON[kind](pair)
    d = np.hstack([directions(2).numpy(), np.zeros((4, 2))])
    o = pair.octahedron
    rows = np.vstack([rows, d, -d])
    offsets = np.concatenate([offsets, o.upper[0].numpy(), -o.lower[0].numpy()])
    return _vertices(rows, offsets)


def _vertices(rows: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The vertices ``(V, n)`` of a bounded polytope with an interior, by Qhull around its Chebyshev centre."""
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
        raise InputError(_NO_INTERIOR) from None
    kept: np.ndarray = np.unique(np.round(found[np.isfinite(found).all(1)], 12), axis=0)
    return kept


def volume(points: np.ndarray) -> float:
    """The volume of the convex hull of points ``(V, n)``; 0 for flat ones."""
    try:
        return float(ConvexHull(points).volume)
    except QhullError:
        return 0.0


def faces(points: np.ndarray) -> list[np.ndarray]:
    """The faces of the convex hull of points ``(V, 3)`` as polygons, ``(corners, 3)`` each, in order around the face.

    Qhull's triangles in one plane make one face. Raises :class:`InputError` for flat points.
    """
    try:
        hull = ConvexHull(points)
    except QhullError:
        raise InputError(_NO_INTERIOR) from None
    planes: dict[tuple[float, ...], set[int]] = {}
    scale = float(np.ptp(points, axis=0).max())
    for simplex, equation in zip(hull.simplices, hull.equations, strict=True):
        key = tuple(np.round(np.array([*equation[:3], equation[3] / scale]), 6) + 0.0)
        planes.setdefault(key, set()).update(simplex.tolist())
    polygons = []
    for key, members in planes.items():
        corners, normal = points[sorted(members)], np.array(key[:3])
        in_plane = np.linalg.svd(normal[None])[2][1:]
        flat = (corners - corners.mean(0)) @ in_plane.T
        polygons.append(corners[np.argsort(np.arctan2(flat[:, 1], flat[:, 0]))])
    return polygons
