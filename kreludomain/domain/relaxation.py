"""What stands for an activation in back-substitution, and what is worth bounding: tables over types of activations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

import torch
from torch import Tensor

from kreludomain.domain.backward import BackwardRelaxation
from kreludomain.domain.bounds import Bounds
from kreludomain.domain.relu import linear_relu
from kreludomain.domain.sshaped import tangent_band
from kreludomain.network import Network
from kreludomain.network.operators import Activation, Operator, PairMaximum, Relu, SShaped


@dataclass(frozen=True, eq=False)
class LinearRelaxation:
    """``lower_slope * x + lower_intercept <= y <= upper_slope * x + upper_intercept``, entry by entry.

    All are ``(B, *shape)``.
    """

    lower_slope: Tensor
    lower_intercept: Tensor
    upper_slope: Tensor
    upper_intercept: Tensor

    def backward(self, coefficients: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        positive, negative = coefficients.clamp(min=0), coefficients.clamp(max=0)
        passed = (positive * self.lower_slope[:, None]).addcmul_(negative, self.upper_slope[:, None])
        below, above = (v.flatten(1)[:, :, None] for v in (self.lower_intercept, self.upper_intercept))
        return (passed,), (positive.flatten(2) @ below + negative.flatten(2) @ above)[..., 0]


@singledispatch
def linear_relaxation(operator: Operator, bounds: Bounds, lower_slope: str) -> BackwardRelaxation:
    """One line below and one above an activation whose input is in ``bounds``. A new activation registers here.

    ``lower_slope`` is the rule for ReLUs.
    """
    raise TypeError(f"no lines below and above {type(operator).__name__}")


@linear_relaxation.register
def _(operator: Relu, bounds: Bounds, lower_slope: str) -> BackwardRelaxation:
    return linear_relu(bounds, lower_slope)


@linear_relaxation.register
def _(operator: SShaped, bounds: Bounds, lower_slope: str) -> BackwardRelaxation:
    band = tangent_band(operator, bounds)
    return LinearRelaxation(band.below.slope, band.below.intercept, band.above.slope, band.above.intercept)


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
    chord = linear_relu(difference, "zero")

    def above(x: Tensor, y: Tensor) -> Tensor:
        return y + chord.upper_slope * (x - y) + chord.intercept

    highest = above(a.upper, b.upper)
    middle = above((a.lower + a.upper) / 2, (b.lower + b.upper) / 2)
    return MaximumRelaxation(cap, difference.unstable & ((highest + middle) / 2 >= cap))


def maxpool_differences(network: Network) -> frozenset[str]:
    """The nodes ``a - b`` of which nothing matters but ``ReLU(a - b)`` in a maximum of ``a`` and ``b``."""

    def only(name: str, kind: type[Operator]) -> bool:
        return all(isinstance(taker.operator, kind) for taker in network.consumers(name))

    relus = [node for node in network.activations if isinstance(node.operator, Relu) and network.consumers(node.name)]
    return frozenset(n.inputs[0] for n in relus if only(n.name, PairMaximum) and only(n.inputs[0], Relu))


def refinable_neurons(network: Network, node: str, bounds: Bounds) -> Tensor:
    """Where tighter bounds of a pre-activation make a tighter relaxation of what takes it, as ``bounds``.

    For a ReLU where the sign is not decided; a curve is never known exactly but at a point.
    """
    return bounds.lower < bounds.upper if network.feeds_smooth(node) else bounds.unstable


def cut_nodes(network: Network) -> tuple[str, ...]:
    """The nodes whose bounds say what bounds of the nodes before them do not: activations and maxima."""
    return tuple(node.name for node in network.nodes if isinstance(node.operator, Activation | PairMaximum))
