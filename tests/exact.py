"""Exact minima over a box, by enumerating activation patterns: what no sound bound may pass."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

import kreludomain as kd
from kreludomain.network.operators import Linear


def exact_minima(network: kd.Network, region: kd.Region, rows: Tensor) -> Tensor:
    """``min rows . f(x)`` over a box, ``(m,)``: one linear program an activation pattern and row; dense networks
    only."""
    box = _sides(region)
    best = np.full(len(rows), np.inf)
    for a, b, slope, shift in _pieces(network, region):
        for position, row in enumerate(rows.numpy()):
            result = linprog(row @ slope, a, b, bounds=box)
            if result.status == 0:
                best[position] = min(best[position], result.fun + row @ shift)
    return torch.from_numpy(best)


def exact_merits(network: kd.Network, region: kd.Region, claim: kd.Claim) -> Tensor:
    """For each clause the minimum, over a box, of its largest row, ``(c,)``: a linear program a pattern and clause."""
    best = np.full(claim.clause_count, np.inf)
    box = [*_sides(region), (None, None)]
    for a, b, slope, shift in _pieces(network, region):
        for number in range(claim.clause_count):
            C, d = (part[claim.clauses == number].numpy() for part in (claim.C, claim.d))
            above = np.hstack([C @ slope, -np.ones((len(C), 1))])  # the last variable is above every row
            within = np.hstack([a, np.zeros((len(a), 1))])
            cost = np.append(np.zeros(len(box) - 1), 1.0)
            result = linprog(cost, np.vstack([within, above]), np.append(b, -(C @ shift + d)), bounds=box)
            if result.status == 0:
                best[number] = min(best[number], result.fun)
    return torch.from_numpy(best)


def _sides(region: kd.Region) -> list[tuple[float, float]]:
    return list(zip(region.lower.flatten().tolist(), region.upper.flatten().tolist(), strict=True))


def _pieces(network: kd.Network, region: kd.Region) -> Iterator[tuple[np.ndarray, ...]]:
    """The inputs ``a x <= b`` of every activation pattern that occurs in a box, where ``f(x) = slope x + shift``."""
    box = _sides(region)
    operators = [node.operator for node in network.nodes if isinstance(node.operator, Linear)]
    layers = [(operator.weight.numpy(), operator.bias.numpy()) for operator in operators if operator.bias is not None]
    sizes = [len(bias) for _, bias in layers[:-1]]
    bounds = kd.bounds(network, region, "deeppoly")
    choices = []
    for name in network.pre_activations:
        b = bounds[name]
        for lower, upper in zip(b.lower.flatten().tolist(), b.upper.flatten().tolist(), strict=True):
            choices.append((1,) if lower >= 0 else (0,) if upper <= 0 else (0, 1))
    for pattern in itertools.product(*choices):
        active = np.split(np.array(pattern), np.cumsum(sizes)[:-1])
        slope, shift = np.eye(len(box)), np.zeros(len(box))
        conditions, limits = [], []
        for (weight, bias), on in zip(layers, [*active, None], strict=True):
            slope, shift = weight @ slope, weight @ shift + bias
            if on is not None:
                sign = np.where(on == 1, -1.0, 1.0)
                conditions.append(sign[:, None] * slope)
                limits.append(-sign * shift)
                slope, shift = slope * on[:, None], shift * on
        a, b = np.vstack(conditions), np.concatenate(limits)
        if linprog(np.zeros(len(box)), a, b, bounds=box).status == 0:
            yield a, b, slope, shift
