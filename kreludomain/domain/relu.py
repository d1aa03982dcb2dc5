"""Linear relaxations of ReLU: what a single neuron's bounds allow.

A neuron with pre-activation ``l <= x <= u``, ``l < 0 < u``, satisfies ``y <= u (x - l) / (u - l)`` (the chord) and
``y >= s x`` for every ``s`` in [0, 1]. Which ``s`` is taken is the *lower-slope rule*, an entry of ``LOWER_SLOPES``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.domain.bounds import Bounds
from kreludomain.rounding import gamma


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

    @property
    def _spread(self) -> Tensor:
        return (self.upper_slope - self.lower_slope)[:, None]


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


def linear_relu(bounds: Bounds, lower_slope: str) -> ReluRelaxation:
    """The chord above and the rule's line below where unstable; exact where stable."""
    lower, upper, unstable = bounds.lower, bounds.upper, bounds.unstable
    active = (lower >= 0).to(lower.dtype)
    safe_lower, safe_upper = torch.where(unstable, lower, -1.0), torch.where(unstable, upper, 1.0)
    slope = _chord_slope(safe_lower, safe_upper)
    below = LOWER_SLOPES[lower_slope](safe_lower, safe_upper)
    return ReluRelaxation(
        lower_slope=torch.where(unstable, below, active),
        upper_slope=torch.where(unstable, slope, active),
        intercept=torch.where(unstable, -slope * safe_lower, 0.0),
    )
