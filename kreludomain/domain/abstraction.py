"""What every method makes: bounds of every node, and bounds of any linear expression."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from kreludomain.deadline import Deadline
from kreludomain.domain.bounds import Bounds, LayerBounds
from kreludomain.domain.rounding import Rounding
from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.property import Objective, Region


@dataclass(frozen=True, eq=False)
class LowerBounds:
    """Sound lower bounds of objectives, ``(B, m)``, and what a reader should know about how they came about."""

    lower: Tensor
    notes: tuple[str, ...] = ()

    def __or__(self, other: LowerBounds) -> LowerBounds:
        """The better of two sets of bounds of the same objectives, entry by entry."""
        # fmax: a bound that is not a number is no bound, and must not displace one
        return LowerBounds(torch.fmax(self.lower, other.lower), _unique(self.notes + other.notes))


def _unique(notes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(notes))


@dataclass(frozen=True, eq=False)
class Abstraction(ABC):
    """A network over a region as one method sees it: bounds of every node, and bounds of any linear expression."""

    network: Network
    region: Region
    bounds: LayerBounds
    notes: tuple[str, ...] = field(default=(), kw_only=True)

    @cached_property
    def rounding(self) -> Rounding:
        """What rounding can do to expressions in values within the bounds."""
        return Rounding(self.network, self.bounds)

    @abstractmethod
    def minimise(self, objective: Objective, deadline: Deadline = Deadline()) -> LowerBounds:
        """Sound lower bounds of the objectives over the region; at the deadline, the best there are by then."""

    def prove(self, objective: Objective, deadline: Deadline = Deadline()) -> LowerBounds:
        """As :meth:`minimise`, but no work goes into an objective once its bound is positive."""
        return self.minimise(objective, deadline)

    def extrema(self, objective: Objective, deadline: Deadline = Deadline()) -> Bounds:
        """Lower and upper bounds of the objectives, ``(B, m)`` each."""
        objective = objective.pulled_back(self.network)
        return Bounds(self.minimise(objective, deadline).lower, -self.minimise(-objective, deadline).lower)


class InfeasibleBoundsError(InputError):
    """Bounds that are known and bounds that follow from the layers before have no value in common."""


def intersect(name: str, bounds: Bounds, known: Mapping[str, Bounds]) -> Bounds:
    """A node's bounds, intersected with bounds that are known of it. Raises :class:`InfeasibleBoundsError` where both
    cannot be true."""
    if name not in known:
        return bounds
    given = known[name]
    slack = 1e-6 * (1.0 + torch.maximum(bounds.lower.abs(), bounds.upper.abs()))
    if bool(((given.lower > bounds.upper + slack) | (given.upper < bounds.lower - slack)).any()):
        raise InfeasibleBoundsError(
            f"bounds of '{name}': no value lies both in them and in what the layers before allow"
        )
    return bounds & given
