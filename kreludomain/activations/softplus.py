"""Softplus, ``log(1 + exp(x))``: convex."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.activations.curve import Curve


@dataclass(frozen=True)
class Softplus(Curve):
    """``y = log(1 + exp(x))``."""

    onnx_name = "Softplus"
    convex = (True,)

    def __call__(self, x: Tensor) -> Tensor:
        return x.clamp(min=0) + torch.log1p(torch.exp(-x.abs()))

    def derivative(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)
