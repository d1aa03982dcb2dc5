"""HardSwish, ``x min(max(x + 3, 0), 6) / 6``: a parabola between -3 and 3, with lines on both sides."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.activations.curve import Curve


@dataclass(frozen=True)
class HardSwish(Curve):
    """``y = x min(max(x + 3, 0), 6) / 6`` (Howard et al., ICCV 2019)."""

    onnx_name = "HardSwish"
    onnx_opset = 14
    breakpoints = (-3.0, 3.0)
    convex = (False, True, False)
    lipschitz = 1.5

    def __call__(self, x: Tensor) -> Tensor:
        return x * (x + 3).clamp(0, 6) / 6

    def derivative(self, x: Tensor) -> Tensor:
        return torch.where(x.abs() <= 3, x / 3 + 0.5, (x > 0).to(x))
