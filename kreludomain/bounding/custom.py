"""A refinement of the user's own: a function that bounds objectives better than the abstraction it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from kreludomain.deadline import Deadline
from kreludomain.domain import Abstraction, DeepPoly, LowerBounds, Method, Query
from kreludomain.errors import InputError
from kreludomain.property import Objective

#: ``(abstraction, objective) -> lower bounds (B, m)`` of the objectives over the abstraction's region.
Refinement = Callable[[Abstraction, Objective], Tensor]


@dataclass(frozen=True, eq=False)
class _RefinedAbstraction(Abstraction):
    base: Abstraction = field(kw_only=True)
    refinement: Refinement = field(kw_only=True)

    def minimise(self, objective: Objective, deadline: Deadline = Deadline()) -> LowerBounds:
        known = self.base.minimise(objective, deadline)
        if deadline.passed:
            return known
        better = self.refinement(self.base, objective)
        if better.shape != known.lower.shape or better.isnan().any():
            raise InputError(f"refinement: bounds of shape {tuple(known.lower.shape)} without NaN are expected")
        return known | LowerBounds(better.to(known.lower) - self.rounding.of_start(objective))


@dataclass(frozen=True)
class Refined(Method):
    """``base``, with objectives bounded by ``refinement`` where that is better.

    The function's bounds are believed: a verdict is as sound as it is.
    """

    refinement: Refinement
    base: Method = field(default_factory=DeepPoly)

    def abstract(self, query: Query) -> Abstraction:
        base = self.base.abstract(query)
        return _RefinedAbstraction(
            base.network, base.region, base.bounds, notes=base.notes, base=base, refinement=self.refinement
        )
