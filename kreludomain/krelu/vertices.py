"""The vertices of all pieces of octahedra, batched over groups.

On each orthant ``x -> (x, ReLU(x))`` is linear, so the joint relaxation of a group is the convex hull of the images of
the vertices of ``P_g`` cut by every orthant. Such a vertex is a feasible meeting point of k independent planes among
the octahedron's own and the coordinate planes ``x_i = 0``. The planes' normals are the same for all groups of a size,
so the lines in which k - 1 of them meet are constants up to an offset: every line is clipped against all half-spaces,
and the ends of what remains are the vertices (plus the origin).

Tolerances lean outwards: a point too many costs precision, a missing one soundness. The octahedron is widened by
``WIDENING`` first, which also gives flat and single-point octahedra an inside; a feasibility test then forgives
``FORGIVING``, and points closer than ``MERGING`` count as one; each is far smaller than the one before, and all are
relative to the group's largest bound.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from kreludomain.krelu.octahedron import Octahedra, directions

WIDENING = 1e-9
FORGIVING = 1e-11
MERGING = 1e-12


@dataclass(frozen=True, eq=False)
class _Lines:
    """Every line in which k - 1 planes meet, for a group size k: ``L`` lines, ``c = k - 1`` planes each.

    ``plane`` ``(L, c)`` is each plane's position in ``[lower | upper | 0]`` of its direction, ``base`` ``(L, c, k)``
    maps the planes' offsets to a point of the line, ``along`` ``(L, k)`` is its direction.
    """

    plane: Tensor
    base: Tensor
    along: Tensor
    pace: Tensor


@lru_cache(maxsize=8)
def _lines(k: int) -> _Lines:
    d = directions(k)
    count = len(d)
    plane, base, along = [], [], []
    for chosen in itertools.combinations(range(count), k - 1):
        normals = d[list(chosen)]
        if k > 1 and torch.linalg.matrix_rank(normals) < k - 1:
            continue
        line = torch.linalg.svd(normals, full_matrices=True).Vh[-1] if k > 1 else torch.ones(1, dtype=torch.float64)
        inverse = torch.linalg.pinv(normals).T if k > 1 else torch.zeros(0, 1, dtype=torch.float64)
        # A direction's planes: at its lower bound, at its upper bound and, along an axis, through the origin.
        offsets = ([i, count + i, 2 * count] if i < k else [i, count + i] for i in chosen)
        for choice in itertools.product(*offsets):
            plane.append(choice)
            base.append(inverse)
            along.append(line)
    directed = torch.stack(along)
    speed = directed @ d.T
    pace = torch.where(speed.abs() > 1e-9, 1.0 / speed, float("inf"))
    return _Lines(torch.tensor(plane, dtype=torch.long).reshape(len(plane), k - 1), torch.stack(base), directed, pace)


def piece_vertices(octahedra: Octahedra, memory_mb: int = 16) -> Tensor:
    """The vertices of all pieces of each group's octahedron, ``(G, V, k)``, float64.

    ``V`` is the largest number of any group; shorter lists are filled up with their own first vertex. A group whose
    octahedron is empty (bounds that contradict each other by more than rounding) gets the vertices of its box.
    """
    k = octahedra.k
    lines = _lines(k)
    a_group = 8 * 4 * len(lines.along) * len(directions(k))
    most = max(1, memory_mb * 2**20 // a_group)
    parts = []
    for start in range(0, len(octahedra.groups), most):
        some = slice(start, start + most)
        part = Octahedra(octahedra.groups[some], octahedra.lower[some].double(), octahedra.upper[some].double())
        part = _finite(part)
        points, valid = _candidates(part, lines)
        scale, empty = _scale(part), ~valid.any(1)
        if empty.any():
            box = part.box
            chosen = Octahedra(part.groups[empty.cpu()], box.lower[empty], box.upper[empty])
            points[empty], valid[empty] = _candidates(chosen, lines)
            scale[empty] = _scale(chosen)
        parts.append(_distinct(points, valid, scale))
    if not parts:
        return octahedra.lower.new_zeros(0, 1, k, dtype=torch.float64)
    longest = max(part.shape[1] for part in parts)
    return torch.cat([torch.cat([p, p[:, :1].expand(-1, longest - p.shape[1], -1)], dim=1) for p in parts])


def _finite(octahedra: Octahedra) -> Octahedra:
    """The octahedra with what the neurons' own bounds imply in place of bounds that are not finite.

    Raises ``ValueError`` where these are not finite: there is nothing to bound the group by.
    """
    if bool(octahedra.lower.isfinite().all() and octahedra.upper.isfinite().all()):
        return octahedra
    box = octahedra.box
    if not bool(box.lower.isfinite().all() and box.upper.isfinite().all()):
        raise ValueError("vertices: a neuron's bounds are not finite")
    lower = torch.where(octahedra.lower.isfinite(), octahedra.lower, box.lower)
    upper = torch.where(octahedra.upper.isfinite(), octahedra.upper, box.upper)
    return Octahedra(octahedra.groups, lower, upper)


def _scale(octahedra: Octahedra) -> Tensor:
    """The largest bound of each group, ``(G, 1)``."""
    return torch.maximum(octahedra.lower.abs(), octahedra.upper.abs()).amax(1, keepdim=True).clamp(min=1e-30)


def _candidates(octahedra: Octahedra, lines: _Lines) -> tuple[Tensor, Tensor]:
    """Ends of all clipped lines and the origin ``(G, 2 L + 1, k)``, and which of them are feasible ``(G, 2 L + 1)``."""
    scale = _scale(octahedra)
    lower, upper = octahedra.lower - WIDENING * scale, octahedra.upper + WIDENING * scale
    d = directions(octahedra.k).to(lower)
    plane, base, along, pace = (v.to(lower.device) for v in (lines.plane, lines.base, lines.along, lines.pace))
    offsets = torch.cat([lower, upper, torch.zeros_like(lower[:, :1])], dim=1)[:, plane]  # (G, L, c)
    origin = torch.einsum("glc,lck->glk", offsets, base)
    middle, half = (lower + upper) / 2, (upper - lower) / 2
    ahead = middle[:, None] - origin @ d.T  # (G, L, D): how far the middle of each slab is from the line's origin
    parallel = pace.isinf()
    slack = FORGIVING * scale
    beside = ((ahead.abs() <= (half + slack)[:, None]) | ~parallel).all(2)
    # A line is in a slab while |ahead - t speed| <= half: always (infinite reach) where it is parallel to it.
    reach = half[:, None] * pace.abs()
    at_middle = ahead.mul_(torch.where(parallel, 0.0, pace))
    enter, leave = (at_middle - reach).amax(2), at_middle.add_(reach).amin(2)
    consistent = (lower <= upper).all(1, keepdim=True)
    valid = beside & (enter <= leave + slack) & consistent
    ends = torch.cat([origin + enter[..., None] * along, origin + leave[..., None] * along], dim=1)
    zero_inside = ((lower <= slack) & (upper >= -slack)).all(1, keepdim=True) & consistent
    points = torch.cat([ends, torch.zeros_like(ends[:, :1])], dim=1)
    return points, torch.cat([valid, valid, zero_inside], dim=1)


def _distinct(points: Tensor, valid: Tensor, scale: Tensor) -> Tensor:
    """The different valid points of each group, ``(G, V, k)``, filled up with the first."""
    cell = (MERGING * scale)[..., None]
    grid = torch.where(valid[..., None], points / cell, 0.0).round().long()
    points = torch.where(grid == 0, 0.0, points)  # rounding dust next to a coordinate plane
    multipliers = torch.tensor([2654435761 * 2 * i + 1000003 for i in range(points.shape[2])], device=points.device)
    key = torch.where(valid, (grid * multipliers).sum(2), torch.iinfo(torch.int64).max)
    order = key.argsort(dim=1, stable=True)
    spread = order[..., None].expand(-1, -1, points.shape[2])
    grid, points, valid = grid.gather(1, spread), points.gather(1, spread), valid.gather(1, order)
    # The key only brings equal points together; they are merged when their cells are equal, not when their keys are.
    repeated = torch.zeros_like(valid)
    repeated[:, 1:] = (grid[:, 1:] == grid[:, :-1]).all(2) & valid[:, :-1]
    keep = valid & ~repeated
    count = keep.sum(1)
    chosen = (~keep).to(torch.uint8).argsort(dim=1, stable=True)[:, : int(count.max())]
    chosen = torch.where(torch.arange(chosen.shape[1], device=points.device) < count[:, None], chosen, chosen[:, :1])
    return points.gather(1, chosen[..., None].expand(-1, -1, points.shape[2]))
