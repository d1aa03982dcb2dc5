"""Exact minima over a box, by enumerating activation patterns: what no sound bound may pass."""

from __future__ import annotations

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


def exact_slopes(network: kd.Network, region: kd.Region) -> Tensor:
    """The Jacobians of the pieces that have an inside in a box, ``(pieces, outputs, inputs)``."""
    box, found = _sides(region), []
    for a, b, slope, _ in _pieces(network, region):
        within = np.hstack([a, np.linalg.norm(a, axis=1, keepdims=True)])
        cost = np.append(np.zeros(len(box)), -1.0)  # the last variable is how deep inside a point is
        deepest = linprog(cost, within, b, bounds=[*_inner(box), (None, None)])
        if deepest.status == 0 and deepest.fun < -1e-9:
            found.append(torch.from_numpy(slope))
    return torch.stack(found)


def _inner(sides: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(low + 1e-9 * (high - low), high - 1e-9 * (high - low)) for low, high in sides]


def _sides(region: kd.Region) -> list[tuple[float, float]]:
    return list(zip(region.lower.flatten().tolist(), region.upper.flatten().tolist(), strict=True))


def _pieces(network: kd.Network, region: kd.Region) -> Iterator[tuple[np.ndarray, ...]]:
    """The inputs ``a x <= b`` of every activation pattern that occurs in a box, where ``f(x) = slope x + shift``."""
    box = _sides(region)
    operators = [node.operator for node in network.nodes if isinstance(node.operator, Linear)]
    names = network.pre_activations
    layers = [(operator.weight.numpy(), operator.bias.numpy()) for operator in operators if operator.bias is not None]
    bounds = kd.bounds(network, region, "deeppoly")
    signs = [
        [(1,) if low >= 0 else (0,) if high <= 0 else (0, 1) for low, high in zip(*sides, strict=True)]
        for sides in ((bounds[n].lower.flatten().tolist(), bounds[n].upper.flatten().tolist()) for n in names)
    ]

    def parts(depth: int, a: np.ndarray, b: np.ndarray, slope: np.ndarray, shift: np.ndarray) -> Iterator[tuple]:
        """The pieces of a part of the box where the layers before ``depth`` have their pattern."""
        weight, bias = layers[depth]
        slope, shift = weight @ slope, weight @ shift + bias
        if depth == len(signs):
            yield a, b, slope, shift
            return
        open_ = [((), a, b)]  # patterns of this layer's first neurons that occur
        for choices, row, offset in zip(signs[depth], slope, shift, strict=True):
            longer = []
            for pattern, above, limit in open_:
                for on in choices:
                    side = -1.0 if on else 1.0
                    a_, b_ = np.vstack([above, side * row]), np.append(limit, -side * offset)
                    if len(choices) == 1 or linprog(np.zeros(len(box)), a_, b_, bounds=box).status == 0:
                        longer.append(((*pattern, on), a_, b_))
            open_ = longer
        for pattern, above, limit in open_:
            on = np.array(pattern)
            yield from parts(depth + 1, above, limit, slope * on[:, None], shift * on)

    size = len(box)
    yield from parts(0, np.zeros((0, size)), np.zeros(0), np.eye(size), np.zeros(size))
