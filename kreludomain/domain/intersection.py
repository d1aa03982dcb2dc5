"""Several abstractions of one network and region as one that is at least as good as each."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce

from kreludomain.deadline import Deadline
from kreludomain.domain.abstraction import Abstraction, LowerBounds
from kreludomain.property import Objective


@dataclass(frozen=True, eq=False)
class Intersection(Abstraction):
    """Every objective is bounded by each member, and the best bound counts.

    DeepPoly over tighter inner bounds is not always tighter: a neuron's line below may flip. Combined with DeepPoly
    over the bounds before, it is.
    """

    members: tuple[Abstraction, ...] = field(kw_only=True)

    def minimise(self, objective: Objective, deadline: Deadline = Deadline()) -> LowerBounds:
        return reduce(lambda a, b: a | b, (member.minimise(objective, deadline) for member in self.members))
