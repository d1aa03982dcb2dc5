"""Softsign, ``x / (1 + |x|)``: convex below zero, concave above."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from kreludomain.activations.curve import Curve


@dataclass(frozen=True)
class Softsign(Curve):
    """``y = x / (1 + |x|)``."""

    onnx_name = "Softsign"
    breakpoints = (0.0,)
    convex = (True, False)

    def __call__(self, x: Tensor) -> Tensor:
        return x / (1 + x.abs())

    def derivative(self, x: Tensor) -> Tensor:
        return (1 + x.abs()) ** -2
