"""What stands for an activation in back-substitution, and what is worth bounding: tables over types of activations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

from torch import Tensor

from kreludomain.domain.backward import Step
from kreludomain.domain.bounds import Bounds
from kreludomain.domain.relu import linear_relu
from kreludomain.domain.sshaped import tangent_band
from kreludomain.network import Network
from kreludomain.network.operators import Activation, Operator, PairMaximum, Relu, SShaped


@dataclass(frozen=True, eq=False)
class LinearStep:
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
def linear_step(operator: Operator, bounds: Bounds, lower_slope: str) -> Step:
    """One line below and one above an activation whose input is in ``bounds``. A new activation registers here.

    ``lower_slope`` is the rule for ReLUs.
    """
    raise TypeError(f"no lines below and above {type(operator).__name__}")


@linear_step.register
def _(operator: Relu, bounds: Bounds, lower_slope: str) -> Step:
    return linear_relu(bounds, lower_slope)


@linear_step.register
def _(operator: SShaped, bounds: Bounds, lower_slope: str) -> Step:
    band = tangent_band(operator, bounds)
    return LinearStep(band.below.slope, band.below.intercept, band.above.slope, band.above.intercept)


def open_neurons(network: Network, node: str, bounds: Bounds) -> Tensor:
    """Where tighter bounds of a pre-activation make a tighter relaxation of what takes it, as ``bounds``.

    For a ReLU where the sign is not decided; a curve is never known exactly but at a point.
    """
    curved = any(taker.inputs[0] == node and not isinstance(taker.operator, Relu) for taker in network.activations)
    return bounds.lower < bounds.upper if curved else bounds.unstable


def anchors(network: Network) -> tuple[str, ...]:
    """The nodes whose bounds say what bounds of the nodes before them do not: activations and maxima."""
    return tuple(node.name for node in network.nodes if isinstance(node.operator, Activation | PairMaximum))
