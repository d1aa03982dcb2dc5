"""The questions as mixed-integer programs over one ball around a centre.

Points are ``x = centre + radius u`` with ``u`` in [-1, 1]^n.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from kreludomain.analysis.invert.difference import difference, slope_bounds
from kreludomain.analysis.invert.distance import LargestNorm, largest_norm
from kreludomain.deadline import Deadline
from kreludomain.domain import LayerBounds
from kreludomain.network import Network
from kreludomain.programs import Affine, ExactEncoder, ExactNetwork, MilpSolution, Model, stacked
from kreludomain.programs.solvers import HIGHS
from kreludomain.property import Region

#: How far images may differ to count as equal in a program, relative to their size (at least 1): more than HiGHS's
#: tolerance, so that no true pair is cut off by it.
EQUALITY_TOL = 1e-8


@dataclass(frozen=True, eq=False)
class BoundedBall:
    """A ball that is searched: its centre ``(*shape)``, its region, and the networks' bounds over it, by ``id``."""

    center: Tensor
    radius: float
    norm: str
    region: Region
    bounds: Mapping[int, LayerBounds]

    def bounds_of(self, network: Network) -> LayerBounds:
        """The bounds of one of the question's networks."""
        return self.bounds[id(network)]

    def unit(self, model: Model) -> Affine:
        """Variables for a point ``u`` of the ball's bounding box, scaled to the radius."""
        center = self.center.flatten().numpy()
        low, high = (side[0].flatten().numpy() for side in (self.region.lower, self.region.upper))
        return model.variables((low - center) / self.radius, (high - center) / self.radius)

    def point(self, u: Affine) -> Affine:
        """The input ``x = centre + radius u``."""
        return (self.radius * u).plus(self.center.flatten().numpy())

    def tensor(self, u: Affine, at: np.ndarray) -> Tensor:
        """The point ``(*shape)`` that a program's point stands for, inside the box."""
        x = torch.from_numpy(self.point(u).at(at)).reshape(self.center.shape)
        return torch.minimum(torch.maximum(x, self.region.lower[0]), self.region.upper[0])


@dataclass(frozen=True, eq=False)
class QuestionProgram:
    """A question's program. ``points`` are those that a solution stands for, ``networks`` the networks at each of them;
    ``objective`` is minimised: how far the points are from the centre."""

    model: Model
    objective: LargestNorm
    points: tuple[Affine, ...]
    networks: tuple[tuple[ExactNetwork, ...], ...]

    @property
    def binaries(self) -> int:
        """How many variables are whole."""
        return int(sum(part.sum() for part in self.model.integer))

    def solve(
        self,
        deadline: Deadline,
        gap: float = 1e-6,
        start: np.ndarray | None = None,
        relaxed: bool = False,
        fixed: tuple[Affine, np.ndarray] | None = None,
    ) -> MilpSolution:
        """Minimises the objective to a relative ``gap`` or until the deadline.

        ``start`` is a point to begin with, ``relaxed`` leaves integrality out, ``fixed`` are variables that take the
        given values (the bound is then one under this condition).
        """
        program = self.model.program()
        if relaxed:
            program = program.relaxed()
        if fixed is not None:
            program = program.fixing(fixed[0].matrix.indices, fixed[1])
        cost = self.objective.cost.costs(self.model.count)[0]
        return HIGHS.minimise_integer(program, cost, deadline.remaining, gap, start)


@dataclass(frozen=True, eq=False)
class InvertibilityQuestion(ABC):
    """A kind of pair of points of which the nearest to a centre is searched: equal images under ``network``, and at
    least (or at most) ``epsilon`` apart, in the maximum norm."""

    network: Network
    epsilon: float

    #: Whether the program only relaxes the question: its points are no pairs, its infeasibility shows that none exist.
    is_relaxation: ClassVar[bool] = False

    @property
    def networks(self) -> Sequence[Network]:
        """All networks that the program encodes; a second one is the one whose images are apart."""
        return (self.network,)

    @abstractmethod
    def program(self, ball: BoundedBall) -> QuestionProgram:
        """The question over one ball."""


@dataclass(frozen=True, eq=False)
class PairQuestion(InvertibilityQuestion):
    """Two points with equal images under ``network`` whose images under ``onto`` (the points themselves without one)
    are at least ``epsilon`` apart."""

    onto: Network | None = None

    @property
    def networks(self) -> Sequence[Network]:
        return (self.network,) if self.onto is None else (self.network, self.onto)

    def program(self, ball: BoundedBall) -> QuestionProgram:
        model = Model()
        u = ball.unit(model), ball.unit(model)
        x = tuple(map(ball.point, u))
        objective = largest_norm(model, u, ball.norm)
        exact = tuple(tuple(_exact(model, net, ball, each) for net in self.networks) for each in x)
        images = [found[0].output for found in exact]
        _equal(model, images[0] - images[1], ball.bounds_of(self.network)[self.network.output.name].width)
        if self.onto is None:
            compared, width = x, ball.region.upper - ball.region.lower
        else:
            compared = tuple(found[1].output for found in exact)
            width = ball.bounds_of(self.onto)[self.onto.output.name].width
        # One sign of each difference is enough: the two points can change places.
        _apart(model, compared[0] - compared[1], self.epsilon, width.flatten().double().numpy())
        return QuestionProgram(model, objective, u, exact)


@dataclass(frozen=True, eq=False)
class PreimageQuestion(InvertibilityQuestion):
    """A point at least ``epsilon`` from the centre with the centre's image."""

    def program(self, ball: BoundedBall) -> QuestionProgram:
        model = Model()
        u = ball.unit(model)
        objective = largest_norm(model, [u], ball.norm)
        exact = _exact(model, self.network, ball, ball.point(u))
        target = self.network(ball.center[None])[0].detach()
        _equal(model, exact.output.plus(-target.flatten().double().numpy()), target)
        offset, reach = ball.radius * u, np.full(2 * len(u), ball.radius)
        _apart(model, _both_signs(offset), self.epsilon, reach)
        return QuestionProgram(model, objective, (u,), ((exact,),))


@dataclass(frozen=True, eq=False)
class ClosePairQuestion(InvertibilityQuestion):
    """Two points with equal images, not the same and at most ``epsilon`` apart, however close; the nearer one counts.

    ``fixed``: one of them is the centre. The program is a relaxation (see :func:`difference`), so where it has no
    solution there is no such pair, but where it has one there need not be.
    """

    fixed: bool = False

    is_relaxation: ClassVar[bool] = True

    def program(self, ball: BoundedBall) -> QuestionProgram:
        model, bounds = Model(), ball.bounds_of(self.network)
        u = ball.unit(model)
        if self.fixed:
            model.require(u, 0.0, 0.0)
        objective = largest_norm(model, [u], ball.norm)
        exact = _exact(model, self.network, ball, ball.point(u))
        step = model.variables(-np.ones(len(u)), np.ones(len(u)))
        slopes = slope_bounds(self.network, bounds)
        moved = difference(model, exact, bounds, slopes, step, self.epsilon)
        _equal(model, moved, torch.from_numpy(slopes[self.network.output.name]))
        signed = _both_signs(step) if self.fixed else step
        _apart(model, signed, 1.0, np.ones(len(signed)))
        return QuestionProgram(model, objective, (u,), ((exact,),))


def _exact(model: Model, network: Network, ball: BoundedBall, x: Affine) -> ExactNetwork:
    return ExactEncoder(model, network, ball.bounds_of(network)).exact(x)


def _equal(model: Model, difference: Affine, scale: Tensor) -> None:
    """Requires a difference of values of this scale to be zero, but for the tolerance."""
    tolerance = EQUALITY_TOL * max(1.0, float(scale.abs().max()))
    model.require(difference, -tolerance, tolerance)


def _apart(model: Model, values: Affine, least: float, reach: np.ndarray) -> None:
    """Requires that one of the values, which are all at least ``-reach``, is ``least`` or more."""
    chosen = model.binaries(len(values))
    model.require(chosen.total(), 1.0, 1.0)
    model.require(values - (least + reach) * chosen, lower=-reach)


def _both_signs(value: Affine) -> Affine:
    return stacked([value, -1.0 * value])
