"""Affine maps that act entry by entry: scaling, shifting, adding, and the last step of a maximum."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kreludomain.network.operators.base import AffineOperator, Shape


@dataclass(frozen=True, eq=False)
class Scale(AffineOperator):
    """``y = multiplier * x + shift``; both broadcast to ``in_shape``. Batch normalisation, for one."""

    row_sparse = True

    multiplier: Tensor
    shift: Tensor | None
    in_shape: Shape

    @property
    def out_shape(self) -> Shape:
        return self.in_shape

    @property
    def accumulation_length(self) -> int:
        return 1

    @cached_property
    def offset(self) -> Tensor | None:
        return None if self.shift is None else self.shift.expand(self.in_shape)

    def linear(self, *inputs: Tensor) -> Tensor:
        return inputs[0] * self.multiplier

    def abs_linear(self, *radii: Tensor) -> Tensor:
        return radii[0] * self.multiplier.abs()

    def transpose(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        return (coefficients * self.multiplier,)


@dataclass(frozen=True, eq=False)
class Sum(AffineOperator):
    """``y = sum_i sign_i x_i`` over inputs of one shape: residual additions and differences."""

    signs: tuple[int, ...]
    in_shape: Shape

    @property
    def accumulation_length(self) -> int:
        return len(self.signs)

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return (self.in_shape,) * len(self.signs)

    @property
    def out_shape(self) -> Shape:
        return self.in_shape

    def linear(self, *inputs: Tensor) -> Tensor:
        return sum((s * x for s, x in zip(self.signs[1:], inputs[1:], strict=True)), self.signs[0] * inputs[0])

    def abs_linear(self, *radii: Tensor) -> Tensor:
        return sum(radii[1:], radii[0])

    def transpose(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        return tuple(coefficients if sign == 1 else sign * coefficients for sign in self.signs)


@dataclass(frozen=True, eq=False)
class PairMaximum(AffineOperator):
    """``y = b + r`` of the inputs ``a``, ``b`` and ``r = ReLU(a - b)``: the larger of ``a`` and ``b``.

    ``a`` has no share in the sum. It is an input so that methods know the value to be a maximum, and bound it as one.
    """

    in_shape: Shape

    @property
    def accumulation_length(self) -> int:
        return 2

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return (self.in_shape,) * 3

    @property
    def out_shape(self) -> Shape:
        return self.in_shape

    def linear(self, *inputs: Tensor) -> Tensor:
        _, b, r = inputs
        return b + r

    def abs_linear(self, *radii: Tensor) -> Tensor:
        a, b, r = radii
        return 0 * a + b + r  # a function of all three: it is differentiated to be transposed

    def transpose(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        return torch.zeros_like(coefficients), coefficients, coefficients


def channel_scale(multiplier: Tensor, shift: Tensor, in_shape: Shape) -> Scale:
    """A factor and a constant a channel (the first axis), as batch normalisation has them."""
    form = (-1,) + (1,) * (len(in_shape) - 1)
    return Scale(multiplier.reshape(form), shift.reshape(form), in_shape)
