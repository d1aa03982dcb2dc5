"""Counterexamples near an input: how small a region of a growing family still has one.

A family says which region belongs to a number, epsilon; that of a smaller one lies within that of a larger one. So
nothing here needs to know a norm: the distance of a point is the smallest epsilon whose region has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.attack.confirm import confirmed
from kreludomain.deadline import Deadline
from kreludomain.domain import Query
from kreludomain.network import Network, Runtime
from kreludomain.property import Claim, Region

#: The region of an epsilon from 0 up; that of a smaller one lies within that of a larger one.
RegionFamily = Callable[[float], Region]

#: Halvings of an interval of epsilons until a point's own epsilon is known; epsilons that are tried in a round between
#: a point's own and the smallest that it could come to; the most rounds, and the least that one has to gain.
_HALVINGS, _PARTS, _ROUNDS, _LEAST_GAIN = 40, 16, 12, 1e-3


@dataclass(frozen=True, eq=False)
class Counterexample:
    """A confirmed counterexample ``(1, *input_shape)``, and the smallest epsilon whose region has it."""

    point: Tensor
    epsilon: float


@dataclass(frozen=True, eq=False)
class NearestSearch:
    """Moves counterexamples towards the smallest regions of a family, until the deadline.

    ``network`` is in float64, the family's regions fit it; ``strict`` as in :class:`Query`.
    """

    network: Network
    family: RegionFamily
    claim: Claim
    runtime: Runtime
    deadline: Deadline
    strict: bool = False

    def nearest(self, point: Tensor, epsilon: float, least: float) -> Counterexample:
        """A counterexample of an epsilon as small as comes up, from one of the region of ``epsilon``; none is looked
        for at ``least`` or below.

        In each of several smaller regions two points are tried: the counterexample moved into it, and the minimiser of
        the linearisation of its clause there.
        """
        found = Counterexample(point, epsilon)
        for _ in range(_ROUNDS):
            if self.deadline.passed or found.epsilon - least <= _LEAST_GAIN * found.epsilon:
                break
            better = self._round(found, least)
            if better is not None:
                found = better
            else:  # nothing between the parts: next, the uppermost of them is parted
                least = found.epsilon - (found.epsilon - least) / _PARTS
        return self._measured(found)

    def _round(self, found: Counterexample, least: float) -> Counterexample | None:
        x = found.point.double().clone().requires_grad_()
        clause_margins = self.claim.clause_margins(self.claim.margins(self.network(x)))
        (gradient,) = torch.autograd.grad(clause_margins.amin(), x)
        epsilons = [least + part / _PARTS * (found.epsilon - least) for part in range(1, _PARTS)]
        regions = [self.family(epsilon) for epsilon in epsilons]
        points = torch.cat(
            [p for region in regions for p in (region.project(x.detach()), region.minimiser(gradient[None])[0])]
        )
        with torch.no_grad():
            broken = self.claim.broken(self.claim.margins(self.network(points)))
        for position in broken.nonzero()[:, 0].tolist():
            query = Query(self.network, regions[position // 2], self.claim, strict=self.strict)
            point = confirmed(points[position : position + 1], query, self.runtime)
            if point is not None:
                return Counterexample(point, epsilons[position // 2])
        return None

    def _measured(self, found: Counterexample) -> Counterexample:
        """With the smallest epsilon whose region has the point."""
        low, high = 0.0, found.epsilon
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            region = self.family(middle)
            has = bool(region.contains(region.represented(found.point)).all())
            low, high = (low, middle) if has else (middle, high)
        return Counterexample(found.point, high)
