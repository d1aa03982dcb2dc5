"""GELU, ``x P(x)`` with the normal distribution ``P``, and its approximation by a tanh: convex in between, concave
outside."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.activations.curve import Curve
from kreludomain.errors import InputError

_CUBIC = 0.044715


def _normal(x: Tensor) -> Tensor:
    """The normal distribution, with all its digits also where it is small."""
    return torch.erfc(-x / math.sqrt(2)) / 2


def _density(x: Tensor) -> Tensor:
    return torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _argument(x: Tensor) -> Tensor:
    x = x.clamp(-40, 40)  # its sigmoid has long been 0 or 1
    return math.sqrt(8 / math.pi) * (x + _CUBIC * x * x * x)


def _logistic(x: Tensor) -> Tensor:
    """``(1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2``, with all its digits also where it is small."""
    return torch.sigmoid(_argument(x))


def _logistic_density(x: Tensor) -> Tensor:
    share, inner = torch.sigmoid(_argument(x)), x.clamp(-40, 40)
    slope = math.sqrt(8 / math.pi) * (1 + 3 * _CUBIC * inner * inner)
    return slope * share * torch.sigmoid(-_argument(x))


#: By ONNX's ``approximate``: the distribution, its density, and where the second derivative changes its sign.
_FORMS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], float]] = {
    "none": (_normal, _density, math.sqrt(2)),
    "tanh": (_logistic, _logistic_density, 1.4185040087908284),
}


@dataclass(frozen=True)
class Gelu(Curve):
    """``y = x (1 + erf(x / sqrt(2))) / 2`` (Hendrycks and Gimpel, 2016); ``approximate="tanh"`` is another function,
    which has ``tanh(sqrt(2 / pi) (x + 0.044715 x^3))`` for the ``erf``."""

    approximate: str = "none"

    onnx_name = "Gelu"
    onnx_opset = 20
    convex = (False, True, False)
    lipschitz = 1.13

    def __post_init__(self) -> None:
        if self.approximate not in _FORMS:
            raise InputError(f"approximate '{self.approximate}' is not one of {', '.join(_FORMS)}")

    @property
    def breakpoints(self) -> tuple[float, ...]:
        inflection = _FORMS[self.approximate][2]
        return (-inflection, inflection)

    def __call__(self, x: Tensor) -> Tensor:
        return x * _FORMS[self.approximate][0](x)

    def derivative(self, x: Tensor) -> Tensor:
        distribution, density, _ = _FORMS[self.approximate]
        return distribution(x) + x * density(x)
