"""Bounds of the user's own: they are used wherever they are better than a method's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from torch import Tensor

from kreludomain.deadline import Deadline
from kreludomain.domain import Abstraction, DeepPoly, LowerBounds, Method, Query
from kreludomain.errors import InputError
from kreludomain.property import Objective


class Refinement(ABC):
    """A way to bound objectives over an abstraction's region, by the user. Its bounds are believed."""

    @abstractmethod
    def minimise(self, abstraction: Abstraction, objective: Objective, deadline: Deadline) -> Tensor:
        """Sound lower bounds ``(B, m)`` of the objectives over the abstraction's region; minus infinity where there is
        none. Up to the ``deadline``, there is time for them."""


@dataclass(frozen=True)
class Refined(Method):
    """A ``base`` method, with objectives bounded by a ``refinement`` where that is better.

    A verdict is as sound as the refinement is. Raises :class:`InputError` when its bounds have the wrong shape or are
    not numbers.
    """

    refinement: Refinement
    base: Method = field(default_factory=DeepPoly)

    def abstract(self, query: Query) -> Abstraction:
        base = self.base.abstract(query)
        return _RefinedAbstraction(
            base.network, base.region, base.bounds, notes=base.notes, base=base, refinement=self.refinement
        )


@dataclass(frozen=True, eq=False)
class _RefinedAbstraction(Abstraction):
    base: Abstraction = field(kw_only=True)
    refinement: Refinement = field(kw_only=True)

    def minimise(self, objective: Objective, deadline: Deadline = Deadline()) -> LowerBounds:
        by_base = self.base.minimise(objective, deadline)
        if deadline.passed:
            return by_base
        lower = self.refinement.minimise(self.base, objective, deadline)
        if lower.shape != by_base.lower.shape or lower.isnan().any():
            raise InputError(f"refinement: bounds of shape {tuple(by_base.lower.shape)} without NaN are expected")
        return by_base | LowerBounds(lower.to(by_base.lower) - self.rounding.start_error(objective))
