"""Projected gradient descent on a claim's margins (Madry et al., ICLR 2018), many points at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kreludomain.attack.confirm import confirmed
from kreludomain.deadline import Deadline
from kreludomain.domain import Query
from kreludomain.errors import InputError
from kreludomain.network import Network, Runtime
from kreludomain.property import Claim, Region

#: Multiplications of one pass over a batch, a few hundredths of a second, so that a deadline is met within a tenth; and
#: the most points of a batch.
_BATCH_MULTIPLICATIONS, _MOST_POINTS = 1e8, 4096

#: Points are confirmed whose clause margin is below this share of their largest margin (float32 may have the sign
#: wrong): the deepest few of a batch.
_NEAR_ZERO, _MOST_CONFIRMED = 1e-6, 4


@dataclass(frozen=True, eq=False)
class AttackProblem:
    """A claim to break: that of a ``query`` about one region; ``network`` is the query's in float32."""

    query: Query
    network: Network
    claim: Claim
    runtime: Runtime

    @classmethod
    def of(cls, query: Query, runtime: Runtime) -> AttackProblem:
        """The problem of a query's claim. Raises :class:`InputError` without a claim, and for several regions."""
        if query.claim is None:
            raise InputError("claim: missing; there is nothing to attack")
        query.require_one_region("an attack")
        return cls(query, query.network.to(dtype=torch.float32), query.claim, runtime)

    @property
    def deadline(self) -> Deadline:
        return self.query.deadline

    @cached_property
    def float32_region(self) -> Region:
        """The region in the network's dtype and on its device."""
        return self.query.region.to(self.network.dtype, self.network.device)

    @cached_property
    def batch(self) -> int:
        """How many points are evaluated at once."""
        return max(1, min(_MOST_POINTS, int(_BATCH_MULTIPLICATIONS / multiplications(self.network))))

    def margins(self, x: Tensor) -> Tensor:
        """The claim's margins ``(N, m)`` at points ``(N, *input_shape)``."""
        return self.claim.margins(self.network(x))

    def confirmed(self, x: Tensor, margins: Tensor) -> Tensor | None:
        """The first of the deepest points ``x`` with these margins that onnxruntime confirms, ``(1, *input_shape)``."""
        clause_margins = self.claim.clause_margins(margins).amin(1)
        near = clause_margins <= _NEAR_ZERO * margins.abs().amax(1)
        for position in clause_margins.argsort()[:_MOST_CONFIRMED].tolist():
            if near[position]:
                point = x[position : position + 1].to(self.query.region.lower)
                found = confirmed(point, self.query, self.runtime)
                if found is not None:
                    return found
        return None


@dataclass(frozen=True)
class StepRule:
    """``steps`` of descent: ``step_size`` is the first step as a share of the region's width, and falls linearly to
    next to none; directions are summed with ``momentum``."""

    steps: int
    step_size: float
    momentum: float


def pgd(problem: AttackProblem, x: Tensor, clauses: Tensor, rule: StepRule) -> tuple[Tensor | None, Tensor]:
    """Moves points ``x`` ``(N, *input_shape)`` so that each breaks its clause of ``clauses`` ``(N,)``.

    Returns a confirmed counterexample, if one came up, and the smallest margin of each clause of the claim, ``(c,)``.
    The direction is the sign of gradients of unit mean, summed with momentum. Where a point is not confirmed, descent
    goes on, and it is tried again deeper down.
    """
    region = problem.float32_region
    width = region.upper - region.lower
    best, velocity = x.new_full((problem.claim.clause_count,), float("inf")), torch.zeros_like(x)
    for step in range(rule.steps + 1):
        if problem.deadline.passed:
            break
        x = x.detach().requires_grad_()
        margins = problem.margins(x)
        clause_margins = problem.claim.clause_margins(margins)
        best = torch.fmin(best, clause_margins.detach().amin(0))
        found = problem.confirmed(x.detach(), margins.detach())
        if found is not None:
            return found, best
        (gradient,) = torch.autograd.grad(clause_margins.gather(1, clauses[:, None]).sum(), x)
        velocity = rule.momentum * velocity + gradient / _per_point(gradient.abs().flatten(1).mean(1), gradient)
        size = rule.step_size * (1 - step / (rule.steps + 1))
        x = region.project(x.detach() - size * width * velocity.sign(), x.dtype)
    return None, best


def _per_point(value: Tensor, like: Tensor) -> Tensor:
    """One positive number a point, ``(N,)``, to divide ``like`` ``(N, ...)`` by."""
    return value.clamp(min=1e-30).reshape(-1, *[1] * (like.dim() - 1))


def multiplications(network: Network) -> int:
    """About how many one point takes: a weight of ``(out, ...)`` entries is used once for every place of its output."""
    total = 0
    for node in network.nodes:
        weight, size = node.operator.tensors().get("weight"), network.size(node.name)
        total += size if weight is None else weight.numel() * size // len(weight)
    return total
