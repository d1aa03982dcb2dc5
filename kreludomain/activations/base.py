"""An activation: a function of one number, and everything that any method asks of it.

Interval analysis asks for a range, back-substitution for one line below and one above, a zonotope for two parallel
lines, the linear program for several lines on each side, and the dual for a polygon around the curve. An activation is
one class, in one file, that answers these questions; no method knows a single activation by its type.

Bounds of the input are given as ``lower`` and ``upper``, finite float64 tensors of one shape with ``lower <= upper``.
Answers hold for all real numbers in between; what rounding may do to them is taken off outwards.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

#: How many lines there are on each side of a curve where a method takes several: the linear program and the dual.
TANGENTS = 8


class BackwardRelaxation(Protocol):
    """A linear relaxation of a node, for back-substitution.

    ``backward`` takes ``a`` of shape ``(B or 1, m, *shape of the node)`` and returns coefficients for each of the
    node's inputs (none: nothing goes further) and a constant ``c`` of shape ``(B or 1, m)``, such that for all inputs
    ``x_i`` and values ``y`` of the node that can occur, ``a . y >= sum_i a_i . x_i + c``.
    """

    def backward(self, coefficients: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """For ``a``, ``(B or 1, m, *shape)``: an ``a_i`` for each input of the node, and ``c``, ``(B or 1, m)``."""
        ...


@dataclass(frozen=True, eq=False)
class Line:
    """``slope * x + intercept``, entry by entry; or several lines, along a first axis."""

    slope: Tensor
    intercept: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return self.slope * x + self.intercept

    def __getitem__(self, which: int | slice) -> Line:
        return Line(self.slope[which], self.intercept[which])


@dataclass(frozen=True, eq=False)
class Band:
    """Lines below and above an activation, entry by entry; shapes are those of the bounds, or ``(K, *shape)``."""

    below: Line
    above: Line


@dataclass(frozen=True, eq=False)
class Tangents(Band):
    """``TANGENTS`` lines on each side, ``(TANGENTS, *shape)``, in the order in which they touch the curve.

    ``at_below`` and ``at_above``, of the same shape and in order, are points between the bounds at which they do: what
    two lines that follow each other meet between.
    """

    at_below: Tensor
    at_above: Tensor


@dataclass(frozen=True, eq=False)
class LinearRelaxation:
    """One line below and one above each entry; their tensors are ``(B, *shape)``."""

    band: Band

    def backward(self, coefficients: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        below, above = self.band.below, self.band.above
        positive, negative = coefficients.clamp(min=0), coefficients.clamp(max=0)
        passed = (positive * below.slope[:, None]).addcmul_(negative, above.slope[:, None])
        low, high = (line.intercept.flatten(1)[:, :, None] for line in (below, above))
        return (passed,), (positive.flatten(2) @ low + negative.flatten(2) @ high)[..., 0]


@dataclass(frozen=True)
class ActivationFunction(ABC):
    """A function of one number.

    Subclasses are frozen dataclasses. Their fields are the function's parameters, and the attributes of its ONNX
    operator: of the same names, with the same defaults.
    """

    #: The ONNX operator that computes the function, and the first opset that has it.
    onnx_name: ClassVar[str]
    onnx_opset: ClassVar[int] = 7
    #: Whether the function is linear on either side of zero, so that nothing but the input's sign matters to it.
    linear_by_sign: ClassVar[bool] = False
    #: Whether the function is ``max(x, 0)``: joint relaxations, splits of neurons, and exact analyses are about it.
    is_relu: ClassVar[bool] = False

    @property
    def lipschitz(self) -> float:
        """The largest magnitude of the derivative. No line that is given out is steeper."""
        return 1.0

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """The function's value, entry by entry, in any dtype; autograd goes through it."""

    @abstractmethod
    def range(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """The least and the largest value."""

    @abstractmethod
    def lines(self, lower: Tensor, upper: Tensor) -> Band:
        """One line below and one above: those that leave the smallest area."""

    @abstractmethod
    def parallel_lines(self, lower: Tensor, upper: Tensor) -> Band:
        """A line below and one above of the same slope."""

    @abstractmethod
    def tangents(self, lower: Tensor, upper: Tensor) -> Tangents:
        """Several lines below and above."""

    def relax(self, lower: Tensor, upper: Tensor, lower_slope: str) -> BackwardRelaxation:
        """The relaxation for back-substitution; bounds are ``(B, *shape)``.

        ``lower_slope`` is DeepPoly's rule for the line below where the function leaves a choice, as ReLU does.
        """
        return LinearRelaxation(self.lines(lower, upper))

    def polygon(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Points ``(x, y)``, ``(2 (TANGENTS + 1), *shape)`` each, whose hull holds the curve between the bounds.

        They are where consecutive :meth:`tangents` meet, and their ends. Wherever rounding moves such a point to, it
        stays below both of its lines (above, on the other side), so every edge stays below (above) one of them.
        """
        tangents, ends = self.tangents(lower, upper), torch.stack([lower, upper])
        x, y = [], []
        for lines, at, sign in ((tangents.below, tangents.at_below, 1.0), (tangents.above, tangents.at_above, -1.0)):
            first, second = lines[:-1], lines[1:]
            meeting = (second.intercept - first.intercept) / (first.slope - second.slope)
            meeting = torch.where(meeting.isfinite(), meeting, lower).clamp(at[:-1], at[1:])
            height = sign * torch.minimum(sign * first(meeting), sign * second(meeting))
            x += [ends, meeting]
            y += [torch.stack([lines[0](lower), lines[-1](upper)]), height]
        return torch.cat(x), torch.cat(y)
