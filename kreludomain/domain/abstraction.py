"""The two interfaces everything else is written against: an abstraction, and a method that makes one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from kreludomain.deadline import Deadline
from kreludomain.domain.bounds import Bounds, LayerBounds
from kreludomain.domain.rounding import Rounding
from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.spec import Objective, Region

#: Sound bounds of nodes by name, ``(*shape)`` or ``(B, *shape)``: what is known before a method begins.
Known = Mapping[str, Bounds]


@dataclass(frozen=True, eq=False)
class Minima:
    """Sound lower bounds of objectives, ``(B, m)``, and what a reader should know about how they came about."""

    lower: Tensor
    notes: tuple[str, ...] = ()

    def __or__(self, other: Minima) -> Minima:
        """The better of two sets of bounds of the same objectives, entry by entry."""
        # fmax: a bound that is not a number is no bound, and must not displace one
        return Minima(torch.fmax(self.lower, other.lower), _unique(self.notes + other.notes))


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
    def minimise(self, objective: Objective, deadline: Deadline = Deadline()) -> Minima:
        """Sound lower bounds of the objectives over the region; at the deadline, the best there are by then."""

    def prove(self, objective: Objective, deadline: Deadline = Deadline()) -> Minima:
        """As :meth:`minimise`, but no work goes into an objective once its bound is positive."""
        return self.minimise(objective, deadline)

    def extrema(self, objective: Objective, deadline: Deadline = Deadline()) -> Bounds:
        """Lower and upper bounds of the objectives, ``(B, m)`` each."""
        objective = objective.pulled_back(self.network)
        return Bounds(self.minimise(objective, deadline).lower, -self.minimise(-objective, deadline).lower)


class Method(Protocol):
    """A way to bound a network: a frozen object of options with one function."""

    def abstract(
        self, network: Network, region: Region, known: Known | None = None, deadline: Deadline = Deadline()
    ) -> Abstraction:
        """The abstraction of ``network`` over ``region``.

        ``known`` are sound bounds of nodes by name, such as a user's own; the result is never looser than them.
        """
        ...


@runtime_checkable
class ClaimMethod(Method, Protocol):
    """A method that knows better than to bound everything first, where all that is wanted is a claim's proof."""

    def prove(
        self,
        network: Network,
        region: Region,
        objective: Objective,
        known: Known | None = None,
        deadline: Deadline = Deadline(),
    ) -> tuple[Abstraction, Minima]:
        """The abstraction that it came to, and lower bounds of the objectives: positive where it is proved."""
        ...


class ContradictionError(InputError):
    """Bounds that are known and bounds that follow from the layers before have no value in common."""


def cut(name: str, bounds: Bounds, known: Known) -> Bounds:
    """A node's bounds cut with what is known of it. Raises :class:`ContradictionError` where both cannot be true."""
    if name not in known:
        return bounds
    given = known[name]
    slack = 1e-6 * (1.0 + torch.maximum(bounds.lower.abs(), bounds.upper.abs()))
    if bool(((given.lower > bounds.upper + slack) | (given.upper < bounds.lower - slack)).any()):
        raise ContradictionError(f"bounds of '{name}': no value lies both in them and in what the layers before allow")
    return bounds & given


def prepare(network: Network, region: Region, known: Known | None) -> tuple[Region, dict[str, Bounds]]:
    """The region and the known bounds as the network wants them.

    Raises :class:`InputError` for a region or bounds whose shape does not fit, for bounds of a node that does not
    exist, and for empty or non-finite ones.
    """
    if network.dtype != torch.float64:
        raise InputError("network: bounds are computed in float64; use network.to(dtype=torch.float64)")
    region, fitted = region.fit(network), {}
    for name, bounds in (known or {}).items():
        shape = (region.batch, *network[name].shape)
        try:
            lower, upper = (v.to(region.lower).expand(shape) for v in (bounds.lower, bounds.upper))
        except RuntimeError:
            raise InputError(f"bounds of '{name}': shape {tuple(bounds.lower.shape)}, the node has {shape}") from None
        if not bool((lower <= upper).all() and lower.isfinite().all() and upper.isfinite().all()):
            raise InputError(f"bounds of '{name}': a lower bound is above the upper one, or a bound is not finite")
        fitted[name] = Bounds(lower, upper)
    return region, fitted
