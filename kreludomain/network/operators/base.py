"""Operators: the functions of a network's nodes.

There are three kinds of operator: the :class:`Input`, affine operators and activations. An affine operator knows how to
apply and transpose its matrix and the magnitudes in it, an activation knows its function's range and relaxations
(:mod:`kreludomain.activations`). With these, methods need no table over operators.

Shapes never include the batch dimension. Tensors that go in and out carry exactly one leading dimension ``N``.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kreludomain.rounding import saturated

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Operator(ABC):
    """The function of a node."""

    @property
    def kind(self) -> str:
        """What the operator is called in messages."""
        return type(self).__name__

    @property
    @abstractmethod
    def out_shape(self) -> Shape:
        """Shape of the value, without batch."""

    @property
    @abstractmethod
    def in_shapes(self) -> tuple[Shape, ...]:
        """Shape of each input's value, without batch; as many as there are inputs."""

    @abstractmethod
    def __call__(self, *inputs: Tensor) -> Tensor:
        """The value, ``(N, *out_shape)``, for inputs ``(N, *in_shape)``."""

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Operator:
        """The same operator with its tensors in another dtype (positions stay integers) or on another device.

        Numbers beyond the dtype become its largest: what is computed with it is an estimate.
        """

        def moved_one(value: Tensor) -> Tensor:
            narrowed = value if dtype is None or not value.is_floating_point() else saturated(value, dtype)
            return narrowed.to(device=device)

        moved = {name: moved_one(value) for name, value in self.tensors().items()}
        return dataclasses.replace(self, **moved)

    def tensors(self) -> dict[str, Tensor]:
        """The operator's own tensors by field name."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}


@dataclass(frozen=True, eq=False)
class Input(Operator):
    """The network's input; its value is the argument of the call."""

    shape: Shape

    @property
    def out_shape(self) -> Shape:
        return self.shape

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return ()

    def __call__(self, *inputs: Tensor) -> Tensor:
        return inputs[0]


@dataclass(frozen=True, eq=False)
class AffineOperator(Operator):
    """``y = sum_i W_i x_i + b``, with every ``W_i`` applied and transposed as an operator, never as a matrix."""

    #: Each output entry depends on at most one input entry (so intervals pass through without loss).
    row_sparse = False

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return (self.in_shape,)  # type: ignore[attr-defined]  # a field of every subclass, in its own place

    @property
    @abstractmethod
    def accumulation_length(self) -> int:
        """The most terms of any sum that applying or transposing the operator computes; 0 if nothing is computed."""

    @abstractmethod
    def linear(self, *inputs: Tensor) -> Tensor:
        """``sum_i W_i x_i``: the value without the constant."""

    @abstractmethod
    def abs_linear(self, *radii: Tensor) -> Tensor:
        """``sum_i |W_i| r_i``: how far the value moves when input ``i`` moves by at most ``r_i``."""

    @abstractmethod
    def transpose(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        """``W_i^T a`` for every input, from ``a`` of shape ``(N, *out_shape)``."""

    @cached_property
    def offset(self) -> Tensor | None:
        """``b`` as ``(*out_shape)``; ``None`` where there is none."""
        return None

    def __call__(self, *inputs: Tensor) -> Tensor:
        value = self.linear(*inputs)
        return value if self.offset is None else value + self.offset

    def backward(self, coefficients: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """One step of back-substitution.

        Takes ``a`` of shape ``(B, m, *out_shape)``; returns the coefficients on every input, ``(B, m, *in_shape)``,
        and the constant ``a . b`` of shape ``(B, m)``.
        """
        batch, rows = coefficients.shape[:2]
        inputs = self.transpose(coefficients.flatten(0, 1))
        if self.offset is None:
            constant = coefficients.new_zeros(batch, rows)
        else:
            constant = coefficients.flatten(2) @ self.offset.flatten()
        return tuple(a.unflatten(0, (batch, rows)) for a in inputs), constant
