"""The questions as mixed-integer programs over one ball of radius ``ball`` around the centre.

Points are ``x = centre + ball u`` with ``u`` in [-1, 1]^n. Images that have to be equal may differ by ``ROOM``, which
is more than HiGHS's tolerance: a true pair is never cut off by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from kreludomain.analysis.invert.distance import Size, largest_norm
from kreludomain.analysis.invert.encoding import Evaluation, difference, evaluate, slope_bounds
from kreludomain.analysis.invert.milp import Affine, Milp, stacked
from kreludomain.domain import LayerBounds
from kreludomain.network import Network
from kreludomain.property import Region

#: How far images may differ to count as equal in a program, relative to their size (at least 1).
ROOM = 1e-8


@dataclass(frozen=True, eq=False)
class BoundedBall:
    """Where a question is asked: the centre ``(*shape)``, the radius, the region, and a network's bounds over it."""

    center: Tensor
    radius: float
    norm: str
    region: Region
    bounds: Mapping[int, LayerBounds]

    def of(self, network: Network) -> LayerBounds:
        """The bounds of one of the networks that are asked about."""
        return self.bounds[id(network)]

    def unit(self, milp: Milp) -> Affine:
        """A point ``u`` of the scaled box."""
        center = self.center.flatten().numpy()
        low, high = (side[0].flatten().numpy() for side in (self.region.lower, self.region.upper))
        return milp.new((low - center) / self.radius, (high - center) / self.radius)

    def point(self, u: Affine) -> Affine:
        return (self.radius * u).plus(self.center.flatten().numpy())

    def tensor(self, u: Affine, at: np.ndarray) -> Tensor:
        """The point ``(*shape)`` that a program's point stands for, inside the box."""
        x = torch.from_numpy(self.point(u).at(at)).reshape(self.center.shape)
        return torch.minimum(torch.maximum(x, self.region.lower[0]), self.region.upper[0])


@dataclass(frozen=True, eq=False)
class QuestionProgram:
    """A question's program; ``points`` are those that a solution stands for, ``evaluations`` the networks' at each."""

    milp: Milp
    size: Size
    points: tuple[Affine, ...]
    evaluations: tuple[tuple[Evaluation, ...], ...]


class InvertibilityQuestion(Protocol):
    """What is asked of every ball, and of which networks."""

    @property
    def epsilon(self) -> float: ...

    @property
    def networks(self) -> Sequence[Network]: ...

    def program(self, ball: BoundedBall) -> QuestionProgram: ...


@dataclass(frozen=True, eq=False)
class PairQuestion:
    """Two points with equal images under ``network`` whose images under ``onto`` (the points themselves without one)
    are at least ``epsilon`` apart."""

    network: Network
    epsilon: float
    onto: Network | None = None

    @property
    def networks(self) -> Sequence[Network]:
        return (self.network,) if self.onto is None else (self.network, self.onto)

    def program(self, ball: BoundedBall) -> QuestionProgram:
        milp = Milp()
        u = ball.unit(milp), ball.unit(milp)
        x = tuple(map(ball.point, u))
        size = largest_norm(milp, u, ball.norm)
        evaluations = tuple(tuple(evaluate(milp, net, ball.of(net), each) for net in self.networks) for each in x)
        images = [found[0].output for found in evaluations]
        _equal(milp, images[0] - images[1], ball.of(self.network)[self.network.output.name].width)
        if self.onto is None:
            seen, width = x, ball.region.upper - ball.region.lower
        else:
            seen = tuple(found[1].output for found in evaluations)
            width = ball.of(self.onto)[self.onto.output.name].width
        # One sign of each difference is enough: the two points can change places.
        _apart(milp, seen[0] - seen[1], self.epsilon, width.flatten().double().numpy())
        return QuestionProgram(milp, size, u, evaluations)


@dataclass(frozen=True, eq=False)
class PreimageQuestion:
    """A point at least ``epsilon`` from the centre with the centre's image."""

    network: Network
    epsilon: float

    @property
    def networks(self) -> Sequence[Network]:
        return (self.network,)

    def program(self, ball: BoundedBall) -> QuestionProgram:
        milp = Milp()
        u = ball.unit(milp)
        size = largest_norm(milp, [u], ball.norm)
        evaluation = evaluate(milp, self.network, ball.of(self.network), ball.point(u))
        target = self.network(ball.center[None])[0].detach()
        _equal(milp, evaluation.output.plus(-target.flatten().double().numpy()), target)
        offset, reach = ball.radius * u, np.full(2 * len(u), ball.radius)
        _apart(milp, _both_signs(offset), self.epsilon, reach)
        return QuestionProgram(milp, size, (u,), ((evaluation,),))


@dataclass(frozen=True, eq=False)
class ClosePairQuestion:
    """Two points with equal images, not the same and at most ``epsilon`` apart, however close; the nearer one counts.

    ``fixed``: one of them is the centre. The program is a relaxation (see :func:`difference`), so where it has no
    solution there is no such pair, but where it has one there need not be.
    """

    network: Network
    epsilon: float
    fixed: bool = False

    @property
    def networks(self) -> Sequence[Network]:
        return (self.network,)

    def program(self, ball: BoundedBall) -> QuestionProgram:
        milp, bounds = Milp(), ball.of(self.network)
        u = ball.unit(milp)
        if self.fixed:
            milp.require(u, 0.0, 0.0)
        size = largest_norm(milp, [u], ball.norm)
        evaluation = evaluate(milp, self.network, bounds, ball.point(u))
        step = milp.new(-np.ones(len(u)), np.ones(len(u)))
        slopes = slope_bounds(self.network, bounds)
        moved = difference(milp, evaluation, bounds, slopes, step, self.epsilon)
        _equal(milp, moved, torch.from_numpy(slopes[self.network.output.name]))
        signed = _both_signs(step) if self.fixed else step
        _apart(milp, signed, 1.0, np.ones(len(signed)))
        return QuestionProgram(milp, size, (u,), ((evaluation,),))


def _equal(milp: Milp, difference: Affine, scale: Tensor) -> None:
    room = ROOM * max(1.0, float(scale.abs().max()))
    milp.require(difference, -room, room)


def _apart(milp: Milp, values: Affine, least: float, reach: np.ndarray) -> None:
    """One of the values, which are all at least ``-reach``, is ``least`` or more."""
    chosen = milp.binaries(len(values))
    milp.require(chosen.total(), 1.0, 1.0)
    milp.require(values - (least + reach) * chosen, lower=-reach)


def _both_signs(value: Affine) -> Affine:
    return stacked([value, -1.0 * value])
