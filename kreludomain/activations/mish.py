"""Mish, ``x tanh(log(1 + exp(x)))``: convex between two points, concave on both sides."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.activations.curve import Curve


@dataclass(frozen=True)
class Mish(Curve):
    """``y = x tanh(softplus(x))`` (Misra, BMVC 2020)."""

    onnx_name = "Mish"
    onnx_opset = 18
    breakpoints = (-2.2563763963607931, 1.4905711794854285)  # where the second derivative changes its sign
    convex = (False, True, False)
    lipschitz = 1.09

    def __call__(self, x: Tensor) -> Tensor:
        return x * torch.tanh(_softplus(x))

    def derivative(self, x: Tensor) -> Tensor:
        height = _softplus(x)
        small = torch.exp(-2 * height)
        return torch.tanh(height) + x * torch.sigmoid(x) * 4 * small / (1 + small) ** 2


def _softplus(x: Tensor) -> Tensor:
    return x.clamp(min=0) + torch.log1p(torch.exp(-x.abs()))
