"""ReLU, ``max(x, 0)``.

A neuron with pre-activation ``l <= x <= u``, ``l < 0 < u``, satisfies ``y <= u (x - l) / (u - l)`` (the chord) and
``y >= s x`` for every ``s`` in [0, 1]. Which ``s`` is taken is the *lower-slope rule*, an entry of ``LOWER_SLOPES``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from kreludomain.activations.base import TANGENTS, ActivationFunction, Band, Line, Tangents


def _chord_slope(lower: Tensor, upper: Tensor) -> Tensor:
    return upper / (upper - lower)


#: Lower slope of an unstable neuron from its bounds, by name.
LOWER_SLOPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "area": lambda lower, upper: (upper > -lower).to(lower.dtype),  # the smaller triangle: Singh et al. 2019
    "parallel": _chord_slope,  # parallel to the chord: Fast-Lin; Weng et al., ICML 2018
    "zero": lambda lower, upper: torch.zeros_like(lower),
}


@dataclass(frozen=True, eq=False)
class ReluRelaxation:
    """``lower_slope * x <= relu(x) <= upper_slope * x + intercept``, entry by entry; all are ``(B, *shape)``."""

    lower_slope: Tensor
    upper_slope: Tensor
    intercept: Tensor

    def backward(self, coefficients: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        negative = coefficients.clamp(max=0)
        intercept = self.intercept.flatten(1)
        if negative.shape[0] == 1:
            constant = intercept @ negative[0].flatten(1).T
        else:
            constant = (negative.flatten(2) @ intercept[:, :, None])[..., 0]
        # a+ * lower + a- * upper, with a+ = a - a-
        passed = (coefficients * self.lower_slope[:, None]).addcmul_(negative, self._spread)
        return (passed,), constant

    def losses(self, coefficients: Tensor) -> Tensor:
        """The most that each neuron's relaxation may cost, about, for coefficients ``(B, m, n)``: ``(B, m, n)``."""
        return coefficients.abs() * self.intercept.flatten(1)[:, None]

    @property
    def _spread(self) -> Tensor:
        return (self.upper_slope - self.lower_slope)[:, None]


@dataclass(frozen=True)
class Relu(ActivationFunction):
    """``y = max(x, 0)``."""

    onnx_name = "Relu"
    linear_by_sign: ClassVar[bool] = True
    is_relu: ClassVar[bool] = True

    def __call__(self, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    def range(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        return self(lower), self(upper)

    def relax(self, lower: Tensor, upper: Tensor, lower_slope: str) -> ReluRelaxation:
        """The chord above and the rule's line below where unstable; exact where stable."""
        unstable, active = (lower < 0) & (upper > 0), (lower >= 0).to(lower.dtype)
        safe_lower, safe_upper = torch.where(unstable, lower, -1.0), torch.where(unstable, upper, 1.0)
        slope = _chord_slope(safe_lower, safe_upper)
        below = LOWER_SLOPES[lower_slope](safe_lower, safe_upper)
        return ReluRelaxation(
            lower_slope=torch.where(unstable, below, active),
            upper_slope=torch.where(unstable, slope, active),
            intercept=torch.where(unstable, -slope * safe_lower, 0.0),
        )

    def lines(self, lower: Tensor, upper: Tensor) -> Band:
        return _band(self.relax(lower, upper, "area"))

    def parallel_lines(self, lower: Tensor, upper: Tensor) -> Band:
        """Those of the chord's slope."""
        return _band(self.relax(lower, upper, "parallel"))

    def tangents(self, lower: Tensor, upper: Tensor) -> Tangents:
        """Both pieces below and the chord above, as often as it takes; there are no other facets."""
        left, right = (lower >= 0).to(lower), (upper > 0).to(lower)
        rising = torch.stack([left] * (TANGENTS - 1) + [right])
        chord = _band(self.relax(lower, upper, "zero")).above
        above = Line(*(v.expand(rising.shape) for v in (chord.slope, chord.intercept)))
        at_below = torch.stack([lower] * (TANGENTS - 1) + [upper])
        return Tangents(Line(rising, torch.zeros_like(rising)), above, at_below, lower.expand(rising.shape))


def _band(relaxation: ReluRelaxation) -> Band:
    below = Line(relaxation.lower_slope, torch.zeros_like(relaxation.intercept))
    return Band(below, Line(relaxation.upper_slope, relaxation.intercept))
