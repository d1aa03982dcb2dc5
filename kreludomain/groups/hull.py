"""The joint convex hull of a group: facets of ``K_g = conv{(v, ReLU(v))}`` by pycddlib.

Double description in floating point is not to be trusted: on degenerate groups it raises, drops facets and returns ones
that cut points off. So its facets are proposals: every right-hand side is recomputed from the vertices, which are known
to be complete, and then moved outwards by rounding. Qhull, another algorithm, checks it: facets that only Qhull finds
are proposals too, and its surface tells whether any can be missing. The hull that is returned always contains ``K_g``.
"""

from __future__ import annotations

from dataclasses import dataclass

import cdd
import numpy as np
import torch
from scipy.spatial import ConvexHull, QhullError
from torch import Tensor

from kreludomain.groups.octahedron import directions

#: Points closer than this, relative to the group's box, are one point to cddlib (which works to about 1e-7).
_CDD_TOL = 1e-6
#: How far above a facet, relative to the group's box, a point may be for the facet to count as supporting.
_SUPPORT_TOL = 1e-9


@dataclass(frozen=True, eq=False)
class Hull:
    """``normals @ (x, y) <= offsets`` for pre-activations ``x`` and post-activations ``y`` of one group.

    ``normals`` is ``(F, 2 k)``, ``offsets`` ``(F,)``. ``exact``: no facet is missing, up to rounding; otherwise
    one may be, and the set may be larger than the hull of the vertices.
    """

    normals: Tensor
    offsets: Tensor
    exact: bool

    def contains(self, points: Tensor, tolerance: float = 0.0) -> Tensor:
        """Whether points ``(N, 2 k)`` satisfy all inequalities, ``(N,)``."""
        return (points @ self.normals.T <= self.offsets + tolerance).all(1)


def lifted(vertices: Tensor) -> Tensor:
    """``(v, ReLU(v))``: ``(..., k)`` to ``(..., 2 k)``."""
    return torch.cat([vertices, vertices.clamp(min=0)], dim=-1)


def joint_hull(vertices: Tensor) -> Hull:
    """The hull of ``(v, ReLU(v))`` over the vertices ``(V, k)`` of one group's pieces; complete, as those are.

    Never smaller than the hull; larger only where facets could not be found, and then ``exact`` is false.
    """
    points = lifted(vertices.double().cpu()).numpy()
    low, high = points.min(0), points.max(0)
    spread = np.where(high - low > 0, high - low, 1.0)
    unit = (points - low) / spread
    basis, equations = _affine_hull(unit)
    facets, exact = _facets(unit, basis)
    proposals = np.vstack([facets, equations, -equations])
    if not exact:
        proposals = np.vstack([proposals, _fallback_facets(vertices.shape[1], spread)])
    # Right-hand sides from the points themselves, outwards by what rounding can do.
    offsets = (unit @ proposals.T).max(0) + 1e-12 * (1.0 + np.abs(proposals).sum(1))
    normals = proposals / spread
    offsets = offsets + normals @ low + 1e-13 * (np.abs(normals) @ np.abs(low))
    return Hull(torch.from_numpy(normals), torch.from_numpy(offsets), exact)


def _affine_hull(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal rows along the affine hull of ``(V, n)`` points in the unit cube, and rows orthogonal to it."""
    _, size, rows = np.linalg.svd(points - points[0], full_matrices=True)
    rank = int((size > _CDD_TOL).sum())
    return rows[:rank], rows[rank:]


def _facets(points: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, bool]:
    """Proposed facets' unit normals ``(F, n)``, and whether they are known to be all of them."""
    _, first = np.unique(np.round(points / _CDD_TOL), axis=0, return_index=True)
    points = points[first]
    if not len(basis):
        return np.zeros((0, points.shape[1])), True
    rows = basis if len(basis) < points.shape[1] else np.eye(points.shape[1])  # cddlib prefers the axes it was given
    seen = (points - points[0]) @ rows.T
    ours, (others, closed) = _facets_by_cddlib(seen), _facets_by_qhull(seen)
    missing = _missing_facets(others, ours, seen)
    return np.vstack([ours, others[missing]]) @ rows, closed


def _facets_by_cddlib(points: np.ndarray) -> np.ndarray:
    """Outer unit normals ``(F, n)`` of the hull of ``(V, n)`` points that span their space; none if cddlib gives up."""
    rows = np.hstack([np.ones((len(points), 1)), points])
    try:
        matrix = cdd.matrix_from_array(rows.tolist(), rep_type=cdd.RepType.GENERATOR)
        found = cdd.copy_inequalities(cdd.polyhedron_from_matrix(matrix)).array
    except RuntimeError:
        return np.zeros((0, points.shape[1]))
    return _unit_rows(-np.asarray(found, dtype=float).reshape(-1, rows.shape[1])[:, 1:])


def _facets_by_qhull(points: np.ndarray) -> tuple[np.ndarray, bool]:
    """The same by Qhull, and whether they are all.

    Qhull returns a closed surface of simplices. If each of them has all points on one side, the surface is the whole
    boundary, so no facet is missing.
    """
    if points.shape[1] == 1:  # Qhull starts at the plane
        return np.array([[1.0], [-1.0]]), True
    try:
        found = ConvexHull(points).equations
    except QhullError:
        return np.zeros((0, points.shape[1])), False
    height = points @ found[:, :-1].T + found[:, -1]
    return _unit_rows(found[:, :-1]), bool(height.max() < _SUPPORT_TOL)


def _unit_rows(normals: np.ndarray) -> np.ndarray:
    """Rows of length one, without those that are not finite or too short to have a direction."""
    normals = normals[np.isfinite(normals).all(1)]
    length = np.linalg.norm(normals, axis=1)
    result: np.ndarray = normals[length > 1e-9] / length[length > 1e-9, None]
    return result


def _touching(normals: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Which points each proposed facet touches, ``(F, V)``."""
    height = points @ normals.T
    result: np.ndarray = (height > height.max(0) - _CDD_TOL).T
    return result


def _missing_facets(some: np.ndarray, others: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Which of ``some`` facets, ``(F,)``, touch points that no facet of ``others`` touches all of; each such once.

    Normals of slivers are inexact, the points a facet touches are not: so facets are compared by those.
    """
    touched = _touching(some, points)
    _, first = np.unique(np.packbits(touched, axis=1), axis=0, return_index=True)
    new = np.zeros(len(some), dtype=bool)
    strays = touched[first].astype(np.float32) @ (~_touching(others, points)).astype(np.float32).T
    new[first] = (strays > 0).all(1)
    return new


def _fallback_facets(k: int, spread: np.ndarray) -> np.ndarray:
    """Directions in the unit cube that bound any group where facets may be missing: its octahedron's and its
    triangles'."""
    d = directions(k).numpy()
    octahedron = np.hstack([d, np.zeros_like(d)]) * spread
    zero, one = np.zeros((k, k)), np.eye(k)
    below = np.vstack([np.hstack([zero, -one]), np.hstack([one, -one]) * spread])
    chord = np.hstack([-one, one])
    return np.vstack([octahedron, -octahedron, below, chord])
