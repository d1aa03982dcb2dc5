"""Relaxations of constants and maxima for back-substitution, and which neurons and nodes are worth bounding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.activations import Relu
from kreludomain.domain.bounds import Bounds
from kreludomain.network import Network, Node
from kreludomain.network.operators import Activation, PairMaximum
from kreludomain.rounding import gamma


@dataclass(frozen=True, eq=False)
class ConstantRelaxation:
    """``lower <= value <= upper``, whatever the input: the relaxation of interval analysis."""

    bounds: Bounds

    def backward(self, coefficients: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        a = coefficients.flatten(2)
        lower, upper = self.bounds.lower.flatten(1), self.bounds.upper.flatten(1)
        slack = gamma(a.shape[2]) * torch.maximum(lower.abs(), upper.abs())  # terms of both signs may cancel
        positive, negative = a.clamp(min=0), a.clamp(max=0)
        return (), torch.einsum("bmn,bn->bm", positive, lower - slack) + torch.einsum(
            "bmn,bn->bm", negative, upper + slack
        )


@dataclass(frozen=True, eq=False)
class MaximumRelaxation:
    """The maximum of ``a`` and ``b`` as ``b + r`` with ``r = ReLU(a - b)``, or bounded above by a constant.

    The constant ``cap``, the larger of the two upper bounds, is taken where ``capped``; both are ``(B, *shape)``. The
    triangle of ``r`` alone does not imply it.
    """

    cap: Tensor
    capped: Tensor

    def backward(self, coefficients: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        constant = coefficients.clamp(max=0).flatten(2) @ (self.cap * self.capped).flatten(1)[:, :, None]
        passed = torch.where((coefficients < 0) & self.capped[:, None], 0.0, coefficients)
        return (torch.zeros_like(passed), passed, passed), constant[..., 0]


def maximum_relaxation(a: Bounds, b: Bounds, difference: Bounds) -> MaximumRelaxation:
    """The relaxation of a maximum: bounded above by ``b + chord(a - b)`` or by the cap, whichever is lower.

    They are compared half-way between the middle of the box and the corner where the chord is highest. In the middle,
    the chord is lower nearly always, but back-substitution concretises in corners.
    """
    cap = torch.maximum(a.upper, b.upper)
    chord = Relu().relax(difference.lower, difference.upper, "zero")

    def above(x: Tensor, y: Tensor) -> Tensor:
        return y + chord.upper_slope * (x - y) + chord.intercept

    highest = above(a.upper, b.upper)
    middle = above(a.lower / 2 + a.upper / 2, b.lower / 2 + b.upper / 2)
    return MaximumRelaxation(cap, difference.unstable & ((highest + middle) / 2 >= cap))


def maxpool_differences(network: Network) -> frozenset[str]:
    """The differences ``a - b`` that only serve a maximum of ``a`` and ``b``, through ``ReLU(a - b)``."""

    def compared(relu: Node) -> bool:
        maxima = network.consumers(relu.name)
        alone = all(node.is_relu for node in network.consumers(relu.inputs[0]))
        return alone and bool(maxima) and all(isinstance(node.operator, PairMaximum) for node in maxima)

    return frozenset(node.inputs[0] for node in network.activations if node.is_relu and compared(node))


def refinable_neurons(network: Network, node: str, bounds: Bounds) -> Tensor:
    """Which neurons of a pre-activation gain from tighter bounds, a mask of the shape of ``bounds``.

    Before a ReLU those whose sign is not decided; before a curve all, unless their bounds are equal.
    """
    return bounds.lower < bounds.upper if network.feeds_smooth(node) else bounds.unstable


def cut_nodes(network: Network) -> tuple[str, ...]:
    """The activations and maxima: the nodes at which interval analysis ends a back-substitution."""
    return tuple(node.name for node in network.nodes if isinstance(node.operator, Activation | PairMaximum))
