"""The claim over a family of regions that grows with epsilon: what a radius is searched of."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from kreludomain.attack import Attack
from kreludomain.attack.nearest import RegionFamily
from kreludomain.deadline import Deadline
from kreludomain.domain import Method
from kreludomain.errors import InputError
from kreludomain.network import Network, Runtime
from kreludomain.property import Claim, Region

#: The largest epsilon that is tried, as a multiple of the first, where no largest one is given.
_FARTHEST = 2.0**24


@dataclass(frozen=True, eq=False)
class RadiusProblem:
    """The claim over a family of regions, and what looks for proofs and counterexamples of it.

    ``network`` is in float64; ``attack``: ``None`` looks for none.
    """

    network: Network
    family: RegionFamily
    claim: Claim
    method: Method
    attack: Attack | None
    runtime: Runtime
    deadline: Deadline
    strict: bool = False

    def region(self, epsilon: float) -> Region:
        """The region of ``epsilon``, with a batch dimension of 1. Raises :class:`InputError` for anything else."""
        region = self.family(epsilon)
        if not isinstance(region, Region):
            raise InputError(f"around: epsilon {epsilon:g} gives {type(region).__name__}, a region is expected")
        region = region.fit(self.network)
        if region.batch != 1:
            raise InputError(f"around: epsilon {epsilon:g} gives a batch of {region.batch} regions, one is expected")
        return region

    def require_growth(self, smaller: float, larger: float) -> None:
        """Raises :class:`InputError` if the box of the region of a smaller epsilon is not within that of a larger."""
        inner, outer = self.region(smaller), self.region(larger)
        if bool(((inner.lower < outer.lower) | (inner.upper > outer.upper)).any()):
            raise InputError(f"around: the region of epsilon {smaller:g} does not lie within that of {larger:g}")

    def within(self, share: float) -> Deadline:
        """The deadline of something that may take a share of the time that is left."""
        return Deadline.after(share * self.deadline.remaining) if math.isfinite(self.deadline.at) else self.deadline


def linearised_radius(problem: RadiusProblem) -> float:
    """The epsilon at which the claim's linearisation at the middle of the regions breaks: an estimate, no bound."""
    x = problem.region(0.0).center.clone().requires_grad_()
    margins = problem.claim.margins(problem.network(x))[0]
    gradients = torch.stack([torch.autograd.grad(m, x, retain_graph=True)[0][0] for m in margins])
    constants = margins.detach() - gradients.flatten(1) @ x.detach().flatten()

    def holds(epsilon: float) -> bool:
        lower = problem.region(epsilon).concretise(gradients[None]) + constants
        return float(problem.claim.clause_margins(lower).min()) > 0

    low, high = 0.0, 1.0
    while holds(high) and high < _FARTHEST:
        low, high = high, 4 * high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
        if high - low < 1e-2 * high:
            break
    return high


def farthest(problem: RadiusProblem, first: float) -> float:
    """The largest epsilon that is worth a look: boxes stop growing where clipping leaves them no room."""
    epsilon, region = first, problem.region(first)
    while epsilon < _FARTHEST * first:
        larger = problem.region(2 * epsilon)
        if larger.is_box and torch.equal(larger.lower, region.lower) and torch.equal(larger.upper, region.upper):
            break
        epsilon, region = 2 * epsilon, larger
    return epsilon
