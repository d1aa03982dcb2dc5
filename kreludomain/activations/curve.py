"""Curves that are convex or concave between a few known points, and their relaxations by bisection.

Of all lines of slope ``s`` that stay below ``f`` on ``[l, u]``, the highest has the intercept ``min f(x) - s x``. On a
concave piece that minimum is at an end; on a convex one the derivative ``f'(x) - s`` grows, so bisection finds it. So
every slope gives a sound line, and slopes only need to be good. A function says what its value, its derivative and its
pieces are; everything else follows.

What bisection and rounding can do to such a minimum: it ends within ``2^-50`` of the piece's width of a point where the
*computed* derivative changes its sign, and around there, or where the sign of a derivative of ``1e-15`` is not told
right, ``f(x) - s x`` changes by far less than :data:`ROUNDING` times ``(lipschitz + |s|) max(|l|, |u|)``. Values of
``f`` itself are off by a few units in the last place of its terms. All of that is taken off each intercept.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from kreludomain.activations.base import TANGENTS, ActivationFunction, Band, Line, Tangents
from kreludomain.rounding import ROUNDING

#: Halvings for a minimum that is to be a bound; for one that only tells a good slope; and of the slopes themselves.
_EXACT, _ROUGH, _SLOPES = 50, 16, 20


@dataclass(frozen=True)
class Curve(ActivationFunction):
    """A function that is convex or concave between ``breakpoints``; where it has a kink, there is one of them."""

    #: Which of the pieces, one more than breakpoints, are convex (a line may be called concave, which is quicker).
    convex: ClassVar[tuple[bool, ...]]

    @property
    def breakpoints(self) -> tuple[float, ...]:
        """Where pieces meet, in order."""
        return ()

    @abstractmethod
    def derivative(self, x: Tensor) -> Tensor:
        """The derivative; at a kink, that of the convex piece."""

    def range(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        flat = torch.zeros_like(lower)
        (below, _), (above, _) = (self._highest_below(sign, flat, lower, upper) for sign in (1.0, -1.0))
        return below.intercept, -above.intercept

    def lines(self, lower: Tensor, upper: Tensor) -> Band:
        """The lines that are nearest to the curve in the middle, which is where the area is least."""
        return self._band(lower, upper, *(self._best_slope(sign, lower, upper) for sign in (1.0, -1.0)))

    def parallel_lines(self, lower: Tensor, upper: Tensor) -> Band:
        """Those of least distance, which is convex in their slope."""

        def apart(slope: Tensor) -> Tensor:
            return self._minimiser(1.0, slope, lower, upper) < self._minimiser(-1.0, -slope, lower, upper)

        slope = self._bisected_slope(1.0, lower, upper, apart)
        return self._band(lower, upper, slope, -slope)

    def tangents(self, lower: Tensor, upper: Tensor) -> Tangents:
        """Lines whose slopes are evenly spread over those that the curve has, and the best one in the middle."""

        def slopes(sign: float) -> Tensor:
            least, most = self._slopes(sign, lower, upper)
            share = torch.linspace(0, 1, TANGENTS - 1, dtype=lower.dtype, device=lower.device)
            spread = least + share.view(-1, *[1] * lower.dim()) * (most - least)
            return torch.cat([spread, self._best_slope(sign, lower, upper)[None]]).sort(dim=0).values

        (below, at_below), (above, at_above) = (self._highest_below(s, slopes(s), lower, upper) for s in (1.0, -1.0))
        return Tangents(below, Line(-above.slope, -above.intercept), at_below, at_above)

    def _band(self, lower: Tensor, upper: Tensor, below: Tensor, above: Tensor) -> Band:
        """The highest line below and the lowest above; ``below`` and ``above`` are slopes of lines below ``f`` and
        ``-f``."""
        (low, _), (high, _) = (self._highest_below(s, v, lower, upper) for s, v in ((1.0, below), (-1.0, above)))
        return Band(low, Line(-high.slope, -high.intercept))

    def _highest_below(self, sign: float, slope: Tensor, lower: Tensor, upper: Tensor) -> tuple[Line, Tensor]:
        """The highest line, less rounding, that stays below ``sign * f`` on ``[lower, upper]``; where it touches."""
        x = self._minimiser(sign, slope, lower, upper, _EXACT)
        reach = torch.maximum(lower.abs(), upper.abs())
        slack = ROUNDING * (1 + (self.lipschitz + slope.abs()) * reach)
        return Line(slope, sign * self(x) - slope * x - slack), x

    def _minimiser(self, sign: float, slope: Tensor, lower: Tensor, upper: Tensor, halvings: int = _ROUGH) -> Tensor:
        """Where ``sign * f(x) - slope * x`` is least on ``[lower, upper]``."""
        best = lower.expand(slope.shape)
        least = sign * self(best) - slope * best
        for (start, end), convex in zip(pairwise(self._ends(lower, upper)), self.convex, strict=True):
            candidates = [end.expand(slope.shape)]
            if convex == (sign > 0) and bool((start < end).any()):
                candidates.append(self._bisected(sign, slope, start, end, halvings))
            for x in candidates:
                value = sign * self(x) - slope * x
                best, least = torch.where(value < least, x, best), torch.minimum(value, least)
        return best

    def _bisected(self, sign: float, slope: Tensor, start: Tensor, end: Tensor, halvings: int) -> Tensor:
        """Where the derivative of ``sign * f``, which grows between ``start`` and ``end``, becomes ``slope``."""
        for _ in range(halvings):
            middle = (start + end) / 2
            falls = sign * self.derivative(middle) < slope
            start, end = torch.where(falls, middle, start), torch.where(falls, end, middle)
        return (start + end) / 2

    def _ends(self, lower: Tensor, upper: Tensor) -> list[Tensor]:
        """The ends of the pieces between the bounds; a piece outside of them is empty."""
        inner = [torch.full_like(lower, point).clamp(lower, upper) for point in self.breakpoints]
        return [lower, *inner, upper]

    def _slopes(self, sign: float, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """The least and the largest derivative of ``sign * f`` between the bounds: both are at ends of pieces."""
        least, most = torch.stack([sign * self.derivative(end) for end in self._ends(lower, upper)]).aminmax(dim=0)
        return least, most

    def _best_slope(self, sign: float, lower: Tensor, upper: Tensor) -> Tensor:
        """The slope of the line below ``sign * f`` that is highest in the middle.

        How high a line of slope ``s`` is there is concave in ``s``; it grows as long as the line touches the curve on
        the left of the middle.
        """
        middle = (lower + upper) / 2
        return self._bisected_slope(
            sign, lower, upper, lambda slope: self._minimiser(sign, slope, lower, upper) < middle
        )

    def _bisected_slope(
        self, sign: float, lower: Tensor, upper: Tensor, too_small: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """The slope, of those that ``sign * f`` has, up to which slopes are too small."""
        least, most = self._slopes(sign, lower, upper)
        for _ in range(_SLOPES):
            middle = (least + most) / 2
            small = too_small(middle)
            least, most = torch.where(small, middle, least), torch.where(small, most, middle)
        return (least + most) / 2
