"""SiLU, ``x / (1 + exp(-x))``: convex where ``|x| <= 2.3994``, concave elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.activations.curve import Curve

#: Where the second derivative changes its sign: ``x tanh(x / 2) = 2``.
_INFLECTION = 2.3993572805154677


@dataclass(frozen=True)
class Silu(Curve):
    """``y = x sigmoid(x)`` (Hendrycks and Gimpel, 2016; Swish of beta 1, Ramachandran et al., 2017)."""

    onnx_name = "Swish"
    onnx_opset = 24
    breakpoints = (-_INFLECTION, _INFLECTION)
    convex = (False, True, False)
    lipschitz = 1.1

    def __call__(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)

    def derivative(self, x: Tensor) -> Tensor:
        share = torch.sigmoid(x)
        return share + x * share * torch.sigmoid(-x)
