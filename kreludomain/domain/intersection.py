"""Intersection: several abstractions of one network over one region, combined."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce

from kreludomain.deadline import Deadline
from kreludomain.domain.abstraction import Abstraction, LowerBounds
from kreludomain.property import Objective


@dataclass(frozen=True, eq=False)
class Intersection(Abstraction):
    """The best bound that any of its members has of an objective.

    DeepPoly over tighter bounds of inner layers may be looser, since the rule for the line below may choose another
    slope. Intersected with DeepPoly over the bounds before, it is not.
    """

    members: tuple[Abstraction, ...] = field(kw_only=True)

    def minimise(self, objective: Objective, deadline: Deadline = Deadline()) -> LowerBounds:
        return reduce(lambda a, b: a | b, (member.minimise(objective, deadline) for member in self.members))
