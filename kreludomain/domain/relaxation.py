"""What stands for an activation in back-substitution, and what is worth bounding: tables over types of activations."""

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
    """``lower <= value <= upper`` and nothing about the input: what interval analysis knows of an activation."""

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
    """``b + r`` below a maximum of ``a`` and ``b``; above it too, or a constant where ``capped``, ``(B, *shape)``.

    The triangle of ``r = ReLU(a - b)`` does not know that the maximum is no larger than the larger upper bound.
    """

    cap: Tensor
    capped: Tensor

    def backward(self, coefficients: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        constant = coefficients.clamp(max=0).flatten(2) @ (self.cap * self.capped).flatten(1)[:, :, None]
        passed = torch.where((coefficients < 0) & self.capped[:, None], 0.0, coefficients)
        return (torch.zeros_like(passed), passed, passed), constant[..., 0]


def maximum_relaxation(a: Bounds, b: Bounds, difference: Bounds) -> MaximumRelaxation:
    """The step for a maximum: above, whichever of ``b + chord(a - b)`` and the cap is lower.

    They are compared half-way from the middle of the box to where the chord is highest: in the middle, the chord wins
    nearly always, and the back-substitution ends in corners.
    """
    cap = torch.maximum(a.upper, b.upper)
    chord = Relu().relax(difference.lower, difference.upper, "zero")

    def above(x: Tensor, y: Tensor) -> Tensor:
        return y + chord.upper_slope * (x - y) + chord.intercept

    highest = above(a.upper, b.upper)
    middle = above((a.lower + a.upper) / 2, (b.lower + b.upper) / 2)
    return MaximumRelaxation(cap, difference.unstable & ((highest + middle) / 2 >= cap))


def maxpool_differences(network: Network) -> frozenset[str]:
    """The nodes ``a - b`` of which nothing matters but ``ReLU(a - b)`` in a maximum of ``a`` and ``b``."""

    def compared(relu: Node) -> bool:
        maxima = network.consumers(relu.name)
        alone = all(node.is_relu for node in network.consumers(relu.inputs[0]))
        return alone and bool(maxima) and all(isinstance(node.operator, PairMaximum) for node in maxima)

    return frozenset(node.inputs[0] for node in network.activations if node.is_relu and compared(node))


def refinable_neurons(network: Network, node: str, bounds: Bounds) -> Tensor:
    """Where tighter bounds of a pre-activation make a tighter relaxation of what takes it, as ``bounds``.

    For a ReLU where the sign is not decided; a curve is never known exactly but at a point.
    """
    return bounds.lower < bounds.upper if network.feeds_smooth(node) else bounds.unstable


def cut_nodes(network: Network) -> tuple[str, ...]:
    """The nodes whose bounds say what bounds of the nodes before them do not: activations and maxima."""
    return tuple(node.name for node in network.nodes if isinstance(node.operator, Activation | PairMaximum))
