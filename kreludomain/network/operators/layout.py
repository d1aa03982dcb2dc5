"""Operators that only move entries about: reshaping, permuting, padding with zeros, selecting, joining."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from kreludomain.errors import InputError
from kreludomain.network.operators.base import AffineOperator, Shape


@dataclass(frozen=True, eq=False)
class _Layout(AffineOperator):
    row_sparse = True

    @property
    def accumulation_length(self) -> int:
        return 0

    def abs_linear(self, *radii: Tensor) -> Tensor:
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


@dataclass(frozen=True, eq=False)
class Gather(_Layout):
    """Entries of the input in any order, any of them any number of times: slices, windows of a pooling, broadcasting.

    ``index`` has the shape of the value; its entries are flat positions in the input, or -1 for a zero.
    """

    in_shape: Shape
    index: Tensor

    def __post_init__(self) -> None:
        if not self.index.numel() or not self.index.dim():
            raise InputError(f"a selection of shape {tuple(self.index.shape)} has no entries")
        if int(self.index.min()) < -1 or int(self.index.max()) >= math.prod(self.in_shape):
            raise InputError(f"a selection reaches beyond the {math.prod(self.in_shape)} entries of {self.in_shape}")

    @property
    def out_shape(self) -> Shape:
        return tuple(self.index.shape)

    @cached_property
    def _flat(self) -> tuple[Tensor, bool]:
        """Positions in the flat input, where a zero's is one behind its end, and whether there are zeros."""
        index = self.index.flatten()
        return torch.where(index < 0, math.prod(self.in_shape), index), bool((index < 0).any())

    def linear(self, *inputs: Tensor) -> Tensor:
        (index, zeros), flat = self._flat, inputs[0].flatten(1)
        flat = functional.pad(flat, (0, 1)) if zeros else flat
        result: Tensor = flat.index_select(1, index).unflatten(1, self.out_shape)
        return result

    def transpose(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        (index, zeros), size = self._flat, math.prod(self.in_shape)
        total = coefficients.new_zeros(len(coefficients), size + zeros)
        total.index_add_(1, index, coefficients.flatten(1))
        return (total[:, :size].unflatten(1, self.in_shape),)


@dataclass(frozen=True, eq=False)
class Concat(_Layout):
    """Values one behind the other along ``axis`` (batch not counted)."""

    shapes: tuple[Shape, ...]
    axis: int

    def __post_init__(self) -> None:
        rest = {(*shape[: self.axis], *shape[self.axis + 1 :]) for shape in self.shapes}
        if len(rest) != 1 or not all(self.axis < len(shape) for shape in self.shapes):
            raise InputError(f"values of shapes {', '.join(map(str, self.shapes))} cannot be joined")

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return self.shapes

    @property
    def out_shape(self) -> Shape:
        first, length = self.shapes[0], sum(shape[self.axis] for shape in self.shapes)
        return (*first[: self.axis], length, *first[self.axis + 1 :])

    def linear(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, dim=self.axis + 1)

    def abs_linear(self, *radii: Tensor) -> Tensor:
        return self.linear(*radii)

    def transpose(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        result: tuple[Tensor, ...] = coefficients.split([shape[self.axis] for shape in self.shapes], dim=self.axis + 1)
        return result
