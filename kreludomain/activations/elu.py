"""ELU, ``x`` where it is positive and ``alpha (exp(x) - 1)`` elsewhere: two convex pieces that may meet in a kink."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.activations.curve import Curve
from kreludomain.errors import InputError


@dataclass(frozen=True)
class Elu(Curve):
    """``y = max(x, 0) + alpha min(exp(x) - 1, 0)`` with a positive ``alpha`` (Clevert et al., ICLR 2016)."""

    alpha: float = 1.0

    onnx_name = "Elu"
    breakpoints = (0.0,)
    convex = (True, False)

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise InputError(f"alpha {self.alpha:g}; a positive one is supported")

    @property
    def lipschitz(self) -> float:
        return max(1.0, self.alpha)

    def __call__(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self.alpha * torch.expm1(x.clamp(max=0)))

    def derivative(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, 1.0, self.alpha * torch.exp(x.clamp(max=0)))
