"""Pairs of points with equal images, evaluated in the network itself: a program's solution is only a proposal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.network import Network
from kreludomain.property import Region

#: How far two images may be apart, relative to their size (at least 1), to count as equal.
IMAGE_TOL = 1e-7

#: Entries nearer to a side of the box than this stay where they are when a pair is polished.
EDGE_TOL = 1e-7

#: How much closer than ``epsilon`` two points may be to count as apart, relatively: a solver has a tolerance.
APART_TOL = 1e-6


@dataclass(frozen=True, eq=False)
class Witness:
    """Two points, ``(*input_shape)``, float64.

    ``distance``: the larger of their distances from the centre. ``residual``: the largest difference of their images.
    ``apart``: how far apart they are (for a transformation: their second images), in the maximum norm.
    """

    points: tuple[Tensor, Tensor]
    distance: float
    residual: float
    apart: float


def distance(x: Tensor, y: Tensor, norm: str) -> float:
    """``||x - y||_p``."""
    return float(torch.linalg.vector_norm((x - y).flatten(), ord=float(norm)))


def largest_difference(network: Network | None, points: Tensor) -> float:
    """Between the images of two points ``(2, *shape)`` (the points themselves without a network), maximum norm."""
    images = points if network is None else network(points)
    return float((images[0] - images[1]).abs().max())


def counts_as_equal(network: Network, residual: float, points: Tensor) -> bool:
    """Whether a residual of two images is no more than float64 leaves of an exact equality."""
    return residual <= IMAGE_TOL * max(1.0, float(network(points).abs().max()))


@torch.no_grad()
def newton_polished(
    network: Network, onto: Network | None, points: Tensor, free: Tensor, region: Region, steps: int = 3
) -> Tensor:
    """Points ``(2, *shape)`` with images closer to equal: Newton steps within the linear pieces the points are in.

    Only points marked in ``free`` ``(2,)`` move, by the smallest steps, within the region's box. Where both do, the
    entry that sets them apart (of the points, or of their images under ``onto``) stays as it is. A step that does not
    bring the images closer is not taken.
    """
    best = largest_difference(network, points)
    inside = (points > region.lower + EDGE_TOL) & (points < region.upper - EDGE_TOL)
    may_move = torch.where(free[:, None], inside.flatten(1).double(), 0.0).flatten()
    for _ in range(steps):
        images, compared = (each(points).flatten(1) for each in (network, onto or torch.clone))
        entry = int((compared[0] - compared[1]).abs().argmax())
        rows, target = [jacobian(network, x) for x in points], images[1] - images[0]
        if free.all():
            rows = [torch.cat([row, _row(onto, x, entry)]) for row, x in zip(rows, points, strict=True)]
            target = torch.cat([target, target.new_zeros(1)])
        matrix = torch.cat([rows[0], -rows[1]], 1) * may_move
        step = torch.linalg.lstsq(matrix, target, driver="gelsd").solution
        moved = points + step.reshape(points.shape)
        moved = torch.minimum(torch.maximum(moved, region.lower), region.upper)
        residual = largest_difference(network, moved)
        if residual >= best:
            break
        points, best = moved, residual
    return points


def _row(onto: Network | None, x: Tensor, entry: int) -> Tensor:
    """The gradient of one entry of ``onto``'s output, or of ``x`` itself, as a row."""
    return (torch.eye(x.numel(), dtype=x.dtype) if onto is None else jacobian(onto, x))[entry : entry + 1]


def jacobian(network: Network, x: Tensor) -> Tensor:
    """The matrix ``(outputs, inputs)`` of the linear piece that a point ``(*shape)`` is in."""
    with torch.enable_grad():
        found = torch.autograd.functional.jacobian(lambda v: network(v[None])[0].flatten(), x)
    result: Tensor = found.reshape(network.size(network.output.name), -1)
    return result


def reverses_orientation(network: Network, points: Tensor) -> Tensor:
    """Whether the Jacobian's determinant is negative, ``(N,)``, at points ``(N, *input_shape)``.

    The network has as many outputs as inputs.
    """
    with torch.enable_grad():
        points = points.clone().requires_grad_()
        images = network(points).flatten(1)
        rows = [torch.autograd.grad(image.sum(), points, retain_graph=True)[0].flatten(1) for image in images.T]
    negative: Tensor = torch.linalg.det(torch.stack(rows, 1)) < 0
    return negative
