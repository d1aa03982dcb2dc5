"""Activations as operators: a function of one number, applied to every entry."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from kreludomain.activations import ActivationFunction
from kreludomain.network.operators.base import Operator, Shape


@dataclass(frozen=True, eq=False)
class Activation(Operator):
    """``function`` applied to every entry on its own: see :mod:`kreludomain.activations`."""

    function: ActivationFunction
    shape: Shape

    @property
    def kind(self) -> str:
        return type(self.function).__name__

    @property
    def out_shape(self) -> Shape:
        return self.shape

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return (self.shape,)

    def __call__(self, *inputs: Tensor) -> Tensor:
        return self.function(inputs[0])
