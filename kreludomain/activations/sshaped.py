"""Sigmoid and tanh: functions that grow from one limit to another, convex below zero and concave above.

Both are a scaled tanh. Of all lines of one slope that stay below it on ``[l, u]``, the highest is known in closed form
(:func:`_highest_below`), so that every slope, however it was found, gives a sound line. Good slopes are those of
tangents: at points between ``l`` and the point whose tangent meets the curve again at ``u``; where there is none, the
chord's (Singh et al., POPL 2019, section 4.3; CROWN, Zhang et al., NeurIPS 2018). Lines above are lines below of the
function turned by half a turn, which is the same function.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.activations.base import TANGENTS, ActivationFunction, Band, Line, Tangents
from kreludomain.rounding import ROUNDING

#: Below this width, a tangent in the middle is as good as the chord, whose slope would be rounding.
_NARROW = 1e-7
#: How far to the left of the last point of tangency tangents are spread: there is no bend further out.
_BEND = 4.0
#: Halvings of an interval of at most some hundreds.
_BISECTIONS = 60


@dataclass(frozen=True)
class SShaped(ActivationFunction):
    """``y = offset + height * tanh(rate * x)``, which is all that relaxations need to know of the function."""

    @property
    @abstractmethod
    def form(self) -> tuple[float, float, float]:
        """``(offset, height, rate)``, the last two positive."""

    def range(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        return self(lower) - ROUNDING, self(upper) + ROUNDING

    def lines(self, lower: Tensor, upper: Tensor) -> Band:
        return self._both(lower, upper, lambda lower, upper: _slopes(lower, upper, None))

    def parallel_lines(self, lower: Tensor, upper: Tensor) -> Band:
        """Lines of the least slope between the bounds (DeepZ; Singh et al., NeurIPS 2018)."""
        return self._both(lower, upper, lambda *ends: torch.minimum(*(_derivative(end) for end in ends)))

    def tangents(self, lower: Tensor, upper: Tensor) -> Tangents:
        band, rate = self._both(lower, upper, lambda lower, upper: _slopes(lower, upper, TANGENTS)), self.form[2]
        below = _touching(rate * lower, rate * upper, TANGENTS) / rate
        above = -_touching(-rate * upper, -rate * lower, TANGENTS).flip(0) / rate
        return Tangents(band.below, band.above, below.clamp(lower, upper), above.clamp(lower, upper))

    def _both(self, lower: Tensor, upper: Tensor, slopes: Callable[[Tensor, Tensor], Tensor]) -> Band:
        """Lines of the slopes that ``slopes(l, u)`` gives for lines below ``tanh`` on ``[l, u]``, for this function."""
        offset, height, rate = self.form
        lower, upper = rate * lower, rate * upper
        below = slopes(lower, upper)
        above = slopes(-upper, -lower)
        above = above.flip(0) if above.dim() > lower.dim() else above
        low, high = _highest_below(below, lower, upper), -_highest_below(above, -upper, -lower)
        return Band(
            Line(height * rate * below, offset + height * low),
            Line(height * rate * above, offset + height * high),
        )


@dataclass(frozen=True)
class Sigmoid(SShaped):
    """``y = 1 / (1 + exp(-x))``, which is ``1/2 + tanh(x / 2) / 2``."""

    onnx_name = "Sigmoid"

    @property
    def form(self) -> tuple[float, float, float]:
        return 0.5, 0.5, 0.5

    def __call__(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)


@dataclass(frozen=True)
class Tanh(SShaped):
    """``y = tanh(x)``."""

    onnx_name = "Tanh"

    @property
    def form(self) -> tuple[float, float, float]:
        return 0.0, 1.0, 1.0

    def __call__(self, x: Tensor) -> Tensor:
        return torch.tanh(x)


def _derivative(x: Tensor) -> Tensor:
    """That of tanh, with all its digits also where it is small."""
    small = torch.exp(-2 * x.abs())
    return 4 * small / (1 + small) ** 2


def _highest_below(slope: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """The largest intercept, less rounding, with which a line of any slope stays below tanh on ``[lower, upper]``.

    ``tanh(x) - slope * x`` is least at an end, or where it bends upwards and its derivative is zero:
    ``x = -acosh(1 / sqrt(slope))``.
    """
    steep = slope.clamp(0.0, 1.0)
    touching = torch.maximum(torch.minimum(-torch.acosh(steep.rsqrt().clamp(min=1.0)), upper), lower)
    gaps = (torch.tanh(x) - slope * x for x in (lower, upper, touching))
    first, second, third = gaps
    least = torch.minimum(torch.minimum(first, second), third)
    return least - ROUNDING * (1 + slope.abs() * torch.maximum(lower.abs(), upper.abs()))


def _slopes(lower: Tensor, upper: Tensor, count: int | None) -> Tensor:
    """Slopes of good lines below tanh: one, or ``count`` of them along a new first axis, by where they touch."""
    width, narrow = upper - lower, upper - lower < _NARROW
    chord = (torch.tanh(upper) - torch.tanh(lower)) / width
    chord = torch.where(narrow, _derivative((lower + upper) / 2), chord)
    return torch.where((_last_tangency(upper) <= lower) | narrow, chord, _derivative(_touching(lower, upper, count)))


def _touching(lower: Tensor, upper: Tensor, count: int | None) -> Tensor:
    """Where good tangents below tanh touch it, if any do: one point, or ``count`` along a new first axis, in order."""
    last = _last_tangency(upper)
    if count is None:
        return torch.minimum((lower + upper) / 2, last)
    share = torch.linspace(0, 1, count, dtype=lower.dtype, device=lower.device)
    start = torch.maximum(lower, last - _BEND)
    spread = start + share.view(-1, *[1] * lower.dim()) * (last - start)
    return torch.cat([lower[None], spread[1:]])


def _last_tangency(upper: Tensor) -> Tensor:
    """The largest ``d`` whose tangent is still below tanh at ``upper``: ``upper`` if that is negative."""
    above = upper.clamp(min=0.0)
    low = -torch.minimum(above, 1 + torch.log1p(11 * above) / 2)
    high = torch.zeros_like(upper)
    value = torch.tanh(above)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        sound = torch.tanh(middle) + _derivative(middle) * (above - middle) <= value
        low, high = torch.where(sound, middle, low), torch.where(sound, high, middle)
    return torch.where(upper > 0, low, upper)
