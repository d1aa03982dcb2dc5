"""Operators that only move entries about: reshaping, permuting, padding with zeros."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from kreludomain.errors import InputError
from kreludomain.network.operators.base import AffineOperator, Shape


@dataclass(frozen=True, eq=False)
class _Layout(AffineOperator):
    monomial = True

    @property
    def terms(self) -> int:
        return 0

    def magnitude(self, *radii: Tensor) -> Tensor:
        return self.linear(*radii)


@dataclass(frozen=True, eq=False)
class Reshape(_Layout):
    """The same entries in the same order under another shape (Flatten, Squeeze, ...)."""

    in_shape: Shape
    shape: Shape

    def __post_init__(self) -> None:
        if math.prod(self.in_shape) != math.prod(self.shape):
            raise InputError(f"cannot reshape {self.in_shape} to {self.shape}")

    @property
    def out_shape(self) -> Shape:
        return self.shape

    def linear(self, *inputs: Tensor) -> Tensor:
        return inputs[0].reshape(-1, *self.shape)

    def transpose(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        return (coefficients.reshape(-1, *self.in_shape),)


@dataclass(frozen=True, eq=False)
class Permute(_Layout):
    """Axes in another order: axis ``i`` of the value is axis ``order[i]`` of the input (batch not counted)."""

    in_shape: Shape
    order: tuple[int, ...]

    @property
    def out_shape(self) -> Shape:
        return tuple(self.in_shape[axis] for axis in self.order)

    def linear(self, *inputs: Tensor) -> Tensor:
        return inputs[0].permute(0, *(axis + 1 for axis in self.order))

    def transpose(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        inverse = sorted(range(len(self.order)), key=self.order.__getitem__)
        return (coefficients.permute(0, *(axis + 1 for axis in inverse)),)


@dataclass(frozen=True, eq=False)
class Pad(_Layout):
    """Zeros around an image: ``before`` and ``after`` are entries added along each axis of ``in_shape``."""

    in_shape: Shape
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def out_shape(self) -> Shape:
        return tuple(b + n + a for b, n, a in zip(self.before, self.in_shape, self.after, strict=True))

    def linear(self, *inputs: Tensor) -> Tensor:
        pairs = zip(reversed(self.before), reversed(self.after), strict=True)
        return functional.pad(inputs[0], [width for pair in pairs for width in pair])

    def transpose(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        for axis, (start, size) in enumerate(zip(self.before, self.in_shape, strict=True)):
            coefficients = coefficients.narrow(axis + 1, start, size)
        return (coefficients,)
