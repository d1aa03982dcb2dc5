"""Where descents start: points of the region's faces, and minimisers of random linearisations of the network."""

from __future__ import annotations

import torch
from torch import Tensor

from kreludomain.domain import LayerBounds
from kreludomain.network import Network
from kreludomain.property import Region

#: The share of a random point's entries that is at a bound.
AT_BOUND = 0.4


def faces(region: Region, count: int, generator: torch.Generator) -> Tensor:
    """Random points ``(count, *shape)`` on faces of the region's box, pulled into the region: entries are at a bound
    or uniform. Where a network is piecewise linear, extremes are at bounds more often than not."""
    shape = (count, *region.shape)
    unit = torch.rand(shape, generator=generator, dtype=region.lower.dtype)
    at_bound = torch.rand(shape, generator=generator, dtype=torch.float32) < AT_BOUND
    unit = torch.where(at_bound, unit.round(), unit).to(region.lower.device)
    return region.project(region.lower + unit * (region.upper - region.lower), region.lower.dtype)


def linearised(
    network: Network, region: Region, bounds: LayerBounds, rows: Tensor, generator: torch.Generator
) -> Tensor:
    """Minimisers ``(N, *input_shape)`` over the region of outputs weighted by ``rows`` ``(N, outputs)``, each of
    another linearisation: every ReLU whose sign ``bounds`` leave open is a line of random slope in [0, 1].

    The true gradient knows only the neurons that are active at a point. Where most are inactive all over the middle of
    the region it leads nowhere, while a counterexample may need some of them.
    """
    x = region.center.expand(len(rows), *region.shape).clone().requires_grad_()
    values = {network.input.name: x}
    for node in network.nodes[1:]:
        inputs = [values[name] for name in node.inputs]
        if node.is_relu:
            known = bounds[node.inputs[0]]
            slope = torch.rand((len(rows), *node.shape), generator=generator, dtype=torch.float32).to(x)
            stable = (known.lower >= 0).to(x)
            values[node.name] = inputs[0] * torch.where(known.unstable.to(x.device), slope, stable)
        else:
            values[node.name] = node.operator(*inputs)
    (gradient,) = torch.autograd.grad((values[network.output.name].flatten(1) * rows).sum(), x)
    return region.minimiser(gradient[None])[0]
