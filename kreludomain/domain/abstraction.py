"""Abstractions, which methods return: bounds of every node, and a bound of any linear expression on request."""

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
from kreludomain.rounding import UNDERFLOW


@dataclass(frozen=True, eq=False)
class LowerBounds:
    """Sound lower bounds of objectives, ``(B, m)``, with notes for the user where something went less than ideally.

    A number that is not finite is no bound, and becomes ``-inf``; one above 0 that products may have underflowed for
    (``kreludomain.rounding.UNDERFLOW``) becomes 0.
    """

    lower: Tensor
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lower = torch.where(self.lower.isfinite(), self.lower, -torch.inf)
        object.__setattr__(self, "lower", torch.where((lower > 0) & (lower < UNDERFLOW), 0.0, lower))

    def __or__(self, other: LowerBounds) -> LowerBounds:
        """The better of two sets of bounds of the same objectives, entry by entry."""
        # fmax: a bound that is not a number is no bound, and must not displace one
        return LowerBounds(torch.fmax(self.lower, other.lower), _unique(self.notes + other.notes))


def _unique(notes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(notes))


@dataclass(frozen=True, eq=False)
class Abstraction(ABC):
    """A network over a region, abstracted by one method: bounds of every node, and of any linear expression."""

    network: Network
    region: Region
    bounds: LayerBounds
    notes: tuple[str, ...] = field(default=(), kw_only=True)

    @cached_property
    def rounding(self) -> Rounding:
        """Rounding errors of expressions in values within the bounds."""
        return Rounding(self.network, self.bounds)

    @abstractmethod
    def minimise(self, objective: Objective, deadline: Deadline = Deadline()) -> LowerBounds:
        """Sound lower bounds of the objectives over the region. After the deadline, the best found by then."""

    def prove(self, objective: Objective, deadline: Deadline = Deadline()) -> LowerBounds:
        """As :meth:`minimise`, but an objective whose bound is positive is not bounded any further."""
        return self.minimise(objective, deadline)

    def extrema(self, objective: Objective, deadline: Deadline = Deadline()) -> Bounds:
        """Lower and upper bounds of the objectives, ``(B, m)`` each."""
        objective = objective.pulled_back(self.network)
        return Bounds(self.minimise(objective, deadline).lower, -self.minimise(-objective, deadline).lower)


class InfeasibleBoundsError(InputError):
    """Known bounds of a node and the bounds that follow from the layers before exclude each other."""


def intersect(name: str, bounds: Bounds, known: Mapping[str, Bounds]) -> Bounds:
    """A node's bounds, intersected with its known bounds if there are any. Raises :class:`InfeasibleBoundsError` where
    they exclude each other."""
    if name not in known:
        return bounds
    given = known[name]
    slack = 1e-6 * (1.0 + torch.maximum(bounds.lower.abs(), bounds.upper.abs()))
    if bool(((given.lower > bounds.upper + slack) | (given.upper < bounds.lower - slack)).any()):
        raise InfeasibleBoundsError(
            f"bounds of '{name}': no value lies both in them and in what the layers before allow"
        )
    return bounds & given
