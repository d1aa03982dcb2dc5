"""Activations, one a file: the function, and what every method asks of it."""

from kreludomain.activations.base import (
    TANGENTS,
    ActivationFunction,
    BackwardRelaxation,
    Band,
    Line,
    LinearRelaxation,
    Tangents,
)
from kreludomain.activations.curve import Curve
from kreludomain.activations.elu import Elu
from kreludomain.activations.erf import Erf
from kreludomain.activations.gelu import Gelu
from kreludomain.activations.hardswish import HardSwish
from kreludomain.activations.mish import Mish
from kreludomain.activations.relu import LOWER_SLOPES, Relu, ReluRelaxation
from kreludomain.activations.silu import Silu
from kreludomain.activations.softplus import Softplus
from kreludomain.activations.softsign import Softsign
from kreludomain.activations.sshaped import Sigmoid, SShaped, Tanh

#: All activations, by the ONNX operator that computes each.
ACTIVATIONS: dict[str, type[ActivationFunction]] = {
    kind.onnx_name: kind for kind in (Elu, Erf, Gelu, HardSwish, Mish, Relu, Sigmoid, Silu, Softplus, Softsign, Tanh)
}

__all__ = [
    "ACTIVATIONS",
    "LOWER_SLOPES",
    "TANGENTS",
    "ActivationFunction",
    "BackwardRelaxation",
    "Band",
    "Curve",
    "Elu",
    "Erf",
    "Gelu",
    "HardSwish",
    "Line",
    "LinearRelaxation",
    "Mish",
    "Relu",
    "ReluRelaxation",
    "SShaped",
    "Sigmoid",
    "Silu",
    "Softplus",
    "Softsign",
    "Tangents",
    "Tanh",
]
