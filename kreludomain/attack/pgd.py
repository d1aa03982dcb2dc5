"""Projected gradient descent on a claim's margins (Madry et al., ICLR 2018), many points at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kreludomain.attack.confirm import confirmed
from kreludomain.deadline import Deadline
from kreludomain.network import Network, Runtime
from kreludomain.property import Claim, Region

#: Multiplications of one pass over a batch, a few hundredths of a second: a deadline is met within a tenth. And the
#: most points of a batch.
WORK, BATCH = 1e8, 4096

#: Steps of a descent; the first step as a share of the region's width (the last is next to none), and momentum.
STEPS, FIRST_STEP, MOMENTUM = 40, 0.1, 0.75

#: What is confirmed: points whose merit is below this share of their largest margin (float32 may have the sign wrong),
#: the deepest few of a batch.
NEAR, REPLAYS = 1e-6, 4


@dataclass(frozen=True, eq=False)
class Hunt:
    """What counterexamples are looked for: ``network`` in float32, ``region`` a batch of one in float64."""

    network: Network
    region: Region
    claim: Claim
    runtime: Runtime
    deadline: Deadline

    @cached_property
    def rough(self) -> Region:
        """The region in float32."""
        return self.region.to(self.network.dtype, self.network.device)

    @cached_property
    def most(self) -> int:
        """How many points are evaluated at once."""
        return max(1, min(BATCH, int(WORK / _multiplications(self.network))))

    def margins(self, x: Tensor) -> Tensor:
        """The claim's margins ``(N, m)`` at points ``(N, *input_shape)``."""
        return self.claim.margins(self.network(x))

    def confirmed(self, x: Tensor, margins: Tensor) -> Tensor | None:
        """The first of the deepest points ``x`` with these margins that onnxruntime confirms, ``(1, *input_shape)``."""
        clause_margins = self.claim.clause_margins(margins).amin(1)
        near = clause_margins <= NEAR * margins.abs().amax(1)
        for position in clause_margins.argsort()[:REPLAYS].tolist():
            found = self._replayed(x[position : position + 1]) if near[position] else None
            if found is not None:
                return found
        return None

    def _replayed(self, x: Tensor) -> Tensor | None:
        return confirmed(x.to(self.region.lower), self.region, self.claim, self.runtime)


def descend(hunt: Hunt, x: Tensor, clauses: Tensor) -> tuple[Tensor | None, Tensor]:
    """Moves points ``x`` ``(N, *input_shape)`` so that each breaks its clause of ``clauses`` ``(N,)``.

    Returns a confirmed counterexample, if one came up, and the smallest merit that each clause of the claim had,
    ``(c,)``.
    The step sizes fall linearly; the direction is the sign of gradients of unit mean, added up with momentum. Where a
    point does not replay, descent goes on, and it is tried again deeper down.
    """
    width = hunt.rough.upper - hunt.rough.lower
    best, velocity = x.new_full((hunt.claim.clause_count,), float("inf")), torch.zeros_like(x)
    for step in range(STEPS + 1):
        if hunt.deadline.passed:
            break
        x = x.detach().requires_grad_()
        margins = hunt.margins(x)
        clause_margins = hunt.claim.clause_margins(margins)
        best = torch.fmin(best, clause_margins.detach().amin(0))
        found = hunt.confirmed(x.detach(), margins.detach())
        if found is not None:
            return found, best
        (gradient,) = torch.autograd.grad(clause_margins.gather(1, clauses[:, None]).sum(), x)
        velocity = MOMENTUM * velocity + gradient / _per_point(gradient.abs().flatten(1).mean(1), gradient)
        size = FIRST_STEP * (1 - step / (STEPS + 1))
        x = hunt.rough.project(x.detach() - size * width * velocity.sign(), x.dtype)
    return None, best


def _per_point(value: Tensor, like: Tensor) -> Tensor:
    """One positive number a point, ``(N,)``, to divide ``like`` ``(N, ...)`` by."""
    return value.clamp(min=1e-30).reshape(-1, *[1] * (like.dim() - 1))


def _multiplications(network: Network) -> int:
    """About how many one point takes: a weight of ``(out, ...)`` entries is used once for every place of its output."""
    total = 0
    for node in network.nodes:
        weight, size = node.operator.tensors().get("weight"), network.size(node.name)
        total += size if weight is None else weight.numel() * size // len(weight)
    return total
