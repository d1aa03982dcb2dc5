"""Affine maps that act entry by entry: scaling, shifting, adding."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from kreludomain.network.operators.base import AffineOperator, Shape


@dataclass(frozen=True, eq=False)
class Scale(AffineOperator):
    """``y = multiplier * x + shift``; both broadcast to ``in_shape``. Batch normalisation, for one."""

    monomial = True

    multiplier: Tensor
    shift: Tensor | None
    in_shape: Shape

    @property
    def out_shape(self) -> Shape:
        return self.in_shape

    @property
    def terms(self) -> int:
        return 1

    @cached_property
    def offset(self) -> Tensor | None:
        return None if self.shift is None else self.shift.expand(self.in_shape)

    def linear(self, *inputs: Tensor) -> Tensor:
        return inputs[0] * self.multiplier

    def magnitude(self, *radii: Tensor) -> Tensor:
        return radii[0] * self.multiplier.abs()

    def transpose(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        return (coefficients * self.multiplier,)


@dataclass(frozen=True, eq=False)
class Sum(AffineOperator):
    """``y = sum_i sign_i x_i`` over inputs of one shape: residual additions and differences."""

    signs: tuple[int, ...]
    in_shape: Shape

    @property
    def terms(self) -> int:
        return len(self.signs)

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return (self.in_shape,) * len(self.signs)

    @property
    def out_shape(self) -> Shape:
        return self.in_shape

    def linear(self, *inputs: Tensor) -> Tensor:
        return sum((s * x for s, x in zip(self.signs[1:], inputs[1:], strict=True)), self.signs[0] * inputs[0])

    def magnitude(self, *radii: Tensor) -> Tensor:
        return sum(radii[1:], radii[0])

    def transpose(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        return tuple(coefficients if sign == 1 else sign * coefficients for sign in self.signs)
