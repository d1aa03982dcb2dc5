"""Projected gradient descent on the margins: a search for counterexamples (Madry et al., ICLR 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from kreludomain.network import Network, Runtime
from kreludomain.spec import Claim, Region


def find_counterexample(
    network: Network, region: Region, claim: Claim, runtime: Runtime, steps: int = 40, restarts: int = 4, seed: int = 0
) -> Tensor | None:
    """An input ``(1, *input_shape)`` of a region (batch of one) that breaks the claim, or ``None``.

    Every clause of the claim is attacked from ``restarts`` starting points, the region's centre first. What is returned
    has been replayed: it is a float32 point exactly inside the region, and onnxruntime's float32 outputs break the
    claim.
    """
    generator = torch.Generator().manual_seed(seed)
    region, clauses = region.fit(network), claim.clause_count
    starts = torch.cat([region.center, region.sample(restarts - 1, generator)]) if restarts > 1 else region.center
    x = starts.repeat(clauses, *[1] * (starts.dim() - 1))
    target = torch.arange(clauses, device=x.device).repeat_interleave(len(starts))
    width = region.upper - region.lower
    for step in range(steps + 1):
        x = x.detach().requires_grad_()
        margins = claim.margins(network(x))
        broken = claim.broken(margins).nonzero()[:, 0]
        for position in broken[:8].tolist():
            found = replayed(x[position : position + 1].detach(), region, claim, runtime)
            if found is not None:
                return found
        if step == steps:
            break
        (gradient,) = torch.autograd.grad(claim.merits(margins).gather(1, target[:, None]).sum(), x)
        size = 0.25 * (1 - step / steps) + 0.01
        x = region.project(x.detach() - size * width * gradient.sign())
    return None


def replayed(x: Tensor, region: Region, claim: Claim, runtime: Runtime) -> Tensor | None:
    """``x`` rounded to float32 within the region, if onnxruntime breaks the claim there; ``None`` if it does not."""
    point = region.rounded(x)
    if not bool(region.contains(point.to(region.lower)).all()):
        return None
    outputs = runtime(point)
    return point if bool(claim.broken(claim.margins(outputs.double())).all()) else None


def refuted(network: Network, x: Tensor, region: Region, claim: Claim, runtime: Runtime) -> Tensor | None:
    """The first of inputs ``(n, *input_shape)`` that breaks the claim, as :func:`replayed` confirms; or ``None``."""
    x = x.to(region.lower)
    for position in claim.broken(claim.margins(network(x))).nonzero()[:, 0].tolist():
        found = replayed(x[position : position + 1], region, claim, runtime)
        if found is not None:
            return found
    return None
