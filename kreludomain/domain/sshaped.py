"""Linear relaxations of S-shaped activations: lines below and above a scaled tanh between two bounds.

``tanh`` is convex below zero and concave above. Of all lines of one slope that stay below it on ``[l, u]``, the highest
is known in closed form (:func:`_highest_below`), so that every slope, however it was found, gives a sound line. Good
slopes are those of tangents: at points between ``l`` and the point whose tangent meets the curve again at ``u``; where
there is none, the chord's (Singh et al., POPL 2019, section 4.3; CROWN, Zhang et al., NeurIPS 2018). Lines above are
lines below of the function turned by half a turn, which is the same function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.domain.bounds import Bounds
from kreludomain.network.operators import SShaped
from kreludomain.rounding import ROUNDING

#: Below this width, a tangent in the middle is as good as the chord, whose slope would be rounding.
_NARROW = 1e-7
#: How far to the left of the last point of tangency tangents are spread: there is no bend further out.
_BEND = 4.0
#: Lines on each side of the polygon around a curve.
TANGENTS = 8
#: Halvings of an interval of at most some hundreds.
_BISECTIONS = 60


@dataclass(frozen=True, eq=False)
class Line:
    """``slope * x + intercept``, entry by entry."""

    slope: Tensor
    intercept: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return self.slope * x + self.intercept


@dataclass(frozen=True, eq=False)
class Band:
    """Lines below and above an activation, entry by entry; both shapes are that of the bounds, or ``(K, *shape)``."""

    below: Line
    above: Line


def tangent_band(operator: SShaped, bounds: Bounds) -> Band:
    """One line below and one above: of those that touch, the ones that leave the smallest area."""
    return _both(operator, bounds, lambda lower, upper: _slopes(lower, upper, None))


def tangent_bands(operator: SShaped, bounds: Bounds, count: int = TANGENTS) -> Band:
    """``count`` lines below and above, ordered by where they touch, which are a polygon around the curve."""
    return _both(operator, bounds, lambda lower, upper: _slopes(lower, upper, count))


def parallel_band(operator: SShaped, bounds: Bounds) -> Band:
    """A line below and one above with the same slope, the least derivative between the bounds (DeepZ)."""

    def least(lower: Tensor, upper: Tensor) -> Tensor:
        return torch.minimum(_derivative(lower), _derivative(upper))

    return _both(operator, bounds, least)


def polygon(operator: SShaped, bounds: Bounds, count: int = TANGENTS) -> tuple[Tensor, Tensor]:
    """Points ``(x, y)``, ``(2 (count + 1), *shape)`` each, whose hull holds the curve between the bounds.

    They are where consecutive lines of :func:`tangent_bands` meet, which is between the points where they touch.
    Wherever rounding moves such a point to, it stays below both of its lines (above, on the other side), so every edge
    does of one of them.
    """
    bands, rate = tangent_bands(operator, bounds, count), operator.form[2]
    lower, upper = bounds.lower, bounds.upper
    below = _touching(rate * lower, rate * upper, count) / rate
    above = -_touching(-rate * upper, -rate * lower, count).flip(0) / rate
    parts = []
    for lines, touching, sign in ((bands.below, below, 1.0), (bands.above, above, -1.0)):
        first, second = (Line(lines.slope[part], lines.intercept[part]) for part in (slice(None, -1), slice(1, None)))
        touching = touching.clamp(lower, upper)
        meeting = (second.intercept - first.intercept) / (first.slope - second.slope)
        meeting = torch.where(meeting.isfinite(), meeting, lower).clamp(touching[:-1], touching[1:])
        height = sign * torch.minimum(sign * first(meeting), sign * second(meeting))
        ends = torch.stack([lower, upper])
        heights = torch.stack([lines.slope[i] * end + lines.intercept[i] for i, end in ((0, lower), (-1, upper))])
        parts.append((torch.cat([ends, meeting]), torch.cat([heights, height])))
    (x, y), (further_x, further_y) = parts
    return torch.cat([x, further_x]), torch.cat([y, further_y])


def _both(operator: SShaped, bounds: Bounds, slopes: Callable[[Tensor, Tensor], Tensor]) -> Band:
    """Lines of the slopes that ``slopes(l, u)`` gives for lines below ``tanh`` on ``[l, u]``, for the operator."""
    offset, height, rate = operator.form
    lower, upper = rate * bounds.lower, rate * bounds.upper
    below = slopes(lower, upper)
    above = slopes(-upper, -lower)
    above = above.flip(0) if above.dim() > lower.dim() else above
    low, high = _highest_below(below, lower, upper), -_highest_below(above, -upper, -lower)
    return Band(
        Line(height * rate * below, offset + height * low),
        Line(height * rate * above, offset + height * high),
    )


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
