"""The error function: convex below zero, concave above."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.activations.curve import Curve


@dataclass(frozen=True)
class Erf(Curve):
    """``y = erf(x)``."""

    onnx_name = "Erf"
    onnx_opset = 9
    breakpoints = (0.0,)
    convex = (True, False)
    lipschitz = 2 / math.sqrt(math.pi)

    def __call__(self, x: Tensor) -> Tensor:
        return torch.erf(x)

    def derivative(self, x: Tensor) -> Tensor:
        return self.lipschitz * torch.exp(-x * x)
