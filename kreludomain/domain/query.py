"""The query that methods answer: a network over a region, perhaps a claim, prior bounds and a deadline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import torch

from kreludomain.deadline import Deadline
from kreludomain.domain.bounds import Bounds
from kreludomain.domain.rounding import may_underflow
from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.property import Claim, Objective, Region
from kreludomain.property.logits import before_head, without_head

#: Sound bounds of nodes by name, ``(*shape)`` or ``(B, *shape)``, that are known before a method begins.
PriorBounds = Mapping[str, Bounds]


@dataclass(frozen=True, eq=False)
class Query:
    """A network over a region (``B`` of them), and the claim that is asked about, if there is one.

    ``prior_bounds`` are sound bounds of nodes by name, such as a user's own; no method's result is looser than them.
    After the ``deadline``, the bounds found by then count. ``strict``: a counterexample lies exactly inside the region,
    not at the nearest number of the network's type where the interval of an entry holds none. The region and the prior
    bounds are brought into the network's dtype and shape, with a batch dimension.

    Raises :class:`InputError` for a network that is not in float64, a region, claim or bounds whose shape does not fit,
    bounds of a node that does not exist, and empty or non-finite ones.
    """

    network: Network
    region: Region
    claim: Claim | None = None
    prior_bounds: PriorBounds = field(default_factory=dict, kw_only=True)
    deadline: Deadline = field(default=Deadline(), kw_only=True)
    strict: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.network.dtype != torch.float64:
            raise InputError("network: bounds are computed in float64; use network.to(dtype=torch.float64)")
        region = self.region.fit(self.network)
        fitted = {name: _fitted(self.network, region, name, bounds) for name, bounds in self.prior_bounds.items()}
        object.__setattr__(self, "region", region)
        if self.claim is not None:  # a claim is about the file's outputs, methods answer for the logits
            object.__setattr__(self, "claim", before_head(self.network, self.claim))
        object.__setattr__(self, "network", without_head(self.network))
        object.__setattr__(self, "prior_bounds", fitted)
        if self.claim is not None:
            self.claim.objective(self.network)  # raises for a claim that does not fit
            inputs = torch.stack([region.lower, region.upper])
            if self.claim.non_strict is not None and may_underflow(self.network, self.claim.C, inputs):
                object.__setattr__(self, "claim", replace(self.claim, zero_proves=False))

    @cached_property
    def objective(self) -> Objective:
        """The claim's rows, ``m`` objectives at the network's output. Raises :class:`InputError` without a claim."""
        if self.claim is None:
            raise InputError("claim: missing; there is nothing to prove")
        return self.claim.objective(self.network)

    def knowing(self, prior_bounds: PriorBounds) -> Self:
        """The same query with other bounds that are known before."""
        return replace(self, prior_bounds=prior_bounds)

    def until(self, deadline: Deadline) -> Self:
        """The same query with another deadline."""
        return replace(self, deadline=deadline)

    def require_one_region(self, who: str) -> None:
        """Raises :class:`InputError` for a batch of several regions; ``who`` takes one at a time."""
        if self.region.batch != 1:
            raise InputError(f"region: a batch of {self.region.batch}; {who} takes one region at a time")


def _fitted(network: Network, region: Region, name: str, bounds: Bounds) -> Bounds:
    shape = (region.batch, *network[name].shape)
    try:
        lower, upper = (v.to(region.lower).expand(shape) for v in (bounds.lower, bounds.upper))
    except RuntimeError:
        raise InputError(f"bounds of '{name}': shape {tuple(bounds.lower.shape)}, the node has {shape}") from None
    if not bool((lower <= upper).all()):
        raise InputError(f"bounds of '{name}': a lower bound is above the upper one")
    return Bounds(lower, upper)
