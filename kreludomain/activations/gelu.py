"""GELU, ``x P(x)`` with the normal distribution ``P``: convex where ``|x| <= sqrt(2)``, concave elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.activations.curve import Curve


@dataclass(frozen=True)
class Gelu(Curve):
    """``y = x (1 + erf(x / sqrt(2))) / 2`` (Hendrycks and Gimpel, 2016), not its approximation by a tanh."""

    onnx_name = "Gelu"
    onnx_opset = 20
    breakpoints = (-math.sqrt(2), math.sqrt(2))
    convex = (False, True, False)
    lipschitz = 1.13

    def __call__(self, x: Tensor) -> Tensor:
        return x * _normal(x)

    def derivative(self, x: Tensor) -> Tensor:
        return _normal(x) + x * torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _normal(x: Tensor) -> Tensor:
    """The normal distribution, with all its digits also where it is small."""
    return torch.erfc(-x / math.sqrt(2)) / 2
