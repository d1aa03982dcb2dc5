"""Fully connected layers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network.operators.base import AffineOperator, Shape


@dataclass(frozen=True, eq=False)
class Linear(AffineOperator):
    """``y = W x + b`` on the last axis: ``weight`` is ``(out, in)``, ``bias`` is ``(out,)`` or ``None``."""

    weight: Tensor
    bias: Tensor | None
    in_shape: Shape

    def __post_init__(self) -> None:
        if self.weight.dim() != 2 or not self.in_shape or self.weight.shape[1] != self.in_shape[-1]:
            raise InputError(f"a weight of shape {tuple(self.weight.shape)} does not fit an input of {self.in_shape}")
        if self.bias is not None and self.bias.shape != self.weight.shape[:1]:
            raise InputError(f"a bias of shape {tuple(self.bias.shape)} does not fit {len(self.weight)} outputs")

    @property
    def out_shape(self) -> Shape:
        return (*self.in_shape[:-1], self.weight.shape[0])

    @property
    def accumulation_length(self) -> int:
        return max(self.weight.shape)

    @cached_property
    def offset(self) -> Tensor | None:
        return None if self.bias is None else self.bias.expand(self.out_shape)

    @cached_property
    def _absolute(self) -> Tensor:
        return self.weight.abs()

    def linear(self, *inputs: Tensor) -> Tensor:
        return inputs[0] @ self.weight.T

    def abs_linear(self, *radii: Tensor) -> Tensor:
        return radii[0] @ self._absolute.T

    def transpose(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        return (coefficients @ self.weight,)
