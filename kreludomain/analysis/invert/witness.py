"""Pairs of points with equal images, evaluated in the network itself: what a program finds is only a proposal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.network import Network
from kreludomain.property import Region

#: How far two images may be apart, relative to their size (at least 1), to count as equal.
EQUAL = 1e-7

#: Entries nearer to a side of the box than this stay where they are when a pair is polished.
EDGE = 1e-7

#: How much closer than asked for two points may be to count as apart, relatively: what a solver's tolerance takes.
APART = 1e-6


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


def stands(network: Network, residual: float, points: Tensor) -> bool:
    """Whether a residual is none: what is left of a difference in float64."""
    return residual <= EQUAL * max(1.0, float(network(points).abs().max()))


@torch.no_grad()
def polished(
    network: Network, onto: Network | None, points: Tensor, free: Tensor, region: Region, steps: int = 3
) -> Tensor:
    """Points ``(2, *shape)`` with images closer to equal: Newton steps within the linear pieces the points are in.

    Only points marked in ``free`` ``(2,)`` move, by the smallest steps, within the region's box. Where both do, the
    entry that sets them apart (of the points, or of their images under ``onto``) stays as it is. What does not help is
    not done.
    """
    best = largest_difference(network, points)
    inside = (points > region.lower + EDGE) & (points < region.upper - EDGE)
    may_move = torch.where(free[:, None], inside.flatten(1).double(), 0.0).flatten()
    for _ in range(steps):
        images, seen = (each(points).flatten(1) for each in (network, onto or torch.clone))
        entry = int((seen[0] - seen[1]).abs().argmax())
        rows, aim = [jacobian(network, x) for x in points], images[1] - images[0]
        if free.all():
            rows = [torch.cat([row, _row(onto, x, entry)]) for row, x in zip(rows, points, strict=True)]
            aim = torch.cat([aim, aim.new_zeros(1)])
        matrix = torch.cat([rows[0], -rows[1]], 1) * may_move
        step = torch.linalg.lstsq(matrix, aim, driver="gelsd").solution
        moved = points + step.reshape(points.shape)
        moved = torch.minimum(torch.maximum(moved, region.lower), region.upper)
        left = largest_difference(network, moved)
        if left >= best:
            break
        points, best = moved, left
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
