"""Lower bounds of Lipschitz constants: difference quotients of pairs of points.

Jacobians choose the points and the directions, but the bound is the difference quotient. It holds for any two points,
also across a kink, where the Jacobian that automatic differentiation returns may be that of no linear piece.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.analysis.lipschitz.jacobian import jacobians
from kreludomain.analysis.lipschitz.norms import norm_of
from kreludomain.network import Network
from kreludomain.property import Region
from kreludomain.rounding import ROUNDING

#: Points whose Jacobians are computed together.
BATCH = 64

#: Half the distance between the points of a pair, relative to the size of the region.
STEP = 1e-4


@dataclass(frozen=True, eq=False)
class Slope:
    """``lower``: the difference quotient of two points, a lower bound of the Lipschitz constant, ``l_p`` to ``l_p``."""

    lower: float
    first: Tensor
    second: Tensor


def sampled_slope(
    network: Network, region: Region, p: float | str = 2, samples: int = 200, rounds: int = 4, seed: int = 0
) -> Slope:
    """The largest difference quotient over ``samples`` points of a region (a batch of one).

    Half of the points are drawn from the whole region; each of ``rounds`` rounds draws around the steepest points so
    far, in neighbourhoods that shrink.
    """
    order, generator = norm_of(p), torch.Generator().manual_seed(seed)
    region = region.fit(network)
    width = region.upper - region.lower
    first = max(1, samples // 2)
    each = max(1, (samples - first) // max(1, rounds))

    def found(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return _difference_quotients(network, points, order, region.project, STEP * float(width.max()))

    best = found(torch.cat([region.center, region.sample(first, generator)]))
    for position in range(rounds):
        top = best[0].topk(min(4, len(best[0]))).indices
        around = best[1][top][torch.arange(each) % len(top)]
        noise = torch.randn(around.shape, generator=generator, dtype=around.dtype)
        points = region.project(around + 0.3 * 0.5**position * width * noise)
        more = found(points)
        best = tuple(torch.cat(both) for both in zip(best, more, strict=True))  # type: ignore[assignment]
    return _maximum(best)


def sampled_slope_anywhere(
    network: Network, starts: Tensor, p: float | str = 2, rounds: int = 10, seed: int = 0
) -> Slope:
    """The largest difference quotient found over all inputs, from ``starts`` ``(N, *input_shape)`` and random points.

    There are as many random points as ``starts``. In each round a point moves along its steepest direction, which
    activates the neurons with the largest weights in that direction, so the next Jacobian often has a larger norm. (A
    heuristic; each quotient is a lower bound.)
    """
    order, generator = norm_of(p), torch.Generator().manual_seed(seed)
    scale = float(starts.abs().max().clamp(min=1.0))
    random = scale * torch.randn(starts.shape, generator=generator, dtype=starts.dtype)
    points, best = torch.cat([starts, random]), None
    for position in range(rounds + 1):
        slopes, first, second = _difference_quotients(network, points, order, lambda x: x, STEP * scale)
        top = int(slopes.argmax())
        if best is None or float(slopes[top]) > best.lower:
            best = Slope(float(slopes[top]), first[top], second[top])
        direction = second - first
        length = direction.flatten(1).abs().max(1).values.clamp(min=1e-300).reshape(-1, *[1] * (starts.dim() - 1))
        sign = 1 - 2 * ((torch.arange(len(points)) + position) % 2).reshape(length.shape).to(direction)
        points = points + scale * sign * direction / length
    return best if best is not None else Slope(0.0, starts[0], starts[0])


@torch.no_grad()
def _difference_quotients(
    network: Network, points: Tensor, p: float, inside: Callable[[Tensor], Tensor], step: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The difference quotient at each point along its steepest direction, and the pairs of points ``(N, *shape)``."""
    slopes, firsts, seconds = [], [], []
    for x in points.split(BATCH):
        direction = _steepest_direction(jacobians(network, x), p).reshape(x.shape)
        first, second = inside(x - step * direction), inside(x + step * direction)
        low, high = network(first).flatten(1), network(second).flatten(1)
        rise = torch.linalg.vector_norm(high - low, ord=p, dim=1)
        run = torch.linalg.vector_norm((second - first).flatten(1), ord=p, dim=1)
        # the rounding error of the difference of the outputs
        rounding = ROUNDING * torch.linalg.vector_norm(low.abs() + high.abs(), ord=p, dim=1)
        slope = (rise - rounding).clamp(min=0) / (run * (1 + ROUNDING))
        slopes.append(torch.where(run > 0, slope, 0.0))
        firsts.append(first)
        seconds.append(second)
    return torch.cat(slopes), torch.cat(firsts), torch.cat(seconds)


def _steepest_direction(jacobian: Tensor, p: float) -> Tensor:
    """Directions ``v`` of largest ``||J v||_p / ||v||_p``, ``(N, inputs)``, for ``J`` of shape ``(N, m, inputs)``."""
    if p == 2:
        result: Tensor = torch.linalg.svd(jacobian, full_matrices=False).Vh[:, 0]
        return result
    if p == math.inf:
        row = jacobian.abs().sum(2).argmax(1)
        return torch.where(jacobian[torch.arange(len(row)), row] < 0, -1.0, 1.0).to(jacobian)
    column = jacobian.abs().sum(1).argmax(1)
    return torch.nn.functional.one_hot(column, jacobian.shape[2]).to(jacobian)


def _maximum(best: tuple[Tensor, Tensor, Tensor]) -> Slope:
    top = int(best[0].argmax())
    return Slope(float(best[0][top]), best[1][top], best[2][top])
