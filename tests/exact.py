"""The exact minimum of an objective, by enumerating activation patterns: what no sound bound may pass."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

import kreludomain as kd
from kreludomain.network.operators import Linear


def exact_minima(network: kd.Network, region: kd.Region, rows: Tensor) -> Tensor:
    """``min rows . f(x)`` over a box, ``(m,)``: one linear program an activation pattern and row; dense networks
    only."""
    low, high = region.lower.flatten().numpy(), region.upper.flatten().numpy()
    operators = [node.operator for node in network.nodes if isinstance(node.operator, Linear)]
    layers = [(operator.weight.numpy(), operator.bias.numpy()) for operator in operators if operator.bias is not None]
    sizes = [len(bias) for _, bias in layers[:-1]]
    bounds = kd.bounds(network, region, "deeppoly")
    choices = []
    for name in network.pre_activations:
        b = bounds[name]
        for lower, upper in zip(b.lower.flatten().tolist(), b.upper.flatten().tolist(), strict=True):
            choices.append((1,) if lower >= 0 else (0,) if upper <= 0 else (0, 1))
    best = np.full(len(rows), np.inf)
    for pattern in itertools.product(*choices):
        active = np.split(np.array(pattern), np.cumsum(sizes)[:-1])
        slope, shift = np.eye(len(low)), np.zeros(len(low))
        a, b = [], []
        for (weight, bias), on in zip(layers, [*active, None], strict=True):
            slope, shift = weight @ slope, weight @ shift + bias
            if on is not None:
                sign = np.where(on == 1, -1.0, 1.0)
                a.append(sign[:, None] * slope)
                b.append(-sign * shift)
                slope, shift = slope * on[:, None], shift * on
        feasible = linprog(
            np.zeros(len(low)), np.vstack(a), np.concatenate(b), bounds=list(zip(low, high, strict=True))
        )
        if feasible.status != 0:
            continue
        costs = rows.numpy() @ slope
        for position, cost in enumerate(costs):
            result = linprog(cost, np.vstack(a), np.concatenate(b), bounds=list(zip(low, high, strict=True)))
            if result.status == 0:
                best[position] = min(best[position], result.fun + rows.numpy()[position] @ shift)
    return torch.from_numpy(best)
