"""What tests know of each activation besides the package: torch's version of it, and its exact values."""

from __future__ import annotations

from collections.abc import Callable

import mpmath
from torch import Tensor, nn
from torch.nn import functional

from kreludomain.activations import ActivationFunction, Elu, Gelu

#: Torch's module, and its function, which is called with the module's arguments.
TORCH: dict[str, tuple[Callable[..., nn.Module], Callable[..., Tensor]]] = {
    "Gelu": (nn.GELU, functional.gelu),
    "HardSwish": (nn.Hardswish, functional.hardswish),
    "Relu": (nn.ReLU, functional.relu),
    "Sigmoid": (nn.Sigmoid, functional.sigmoid),
    "Softplus": (nn.Softplus, functional.softplus),
    "Tanh": (nn.Tanh, functional.tanh),
}
#: The function in arithmetic of any precision.
EXACT: dict[str, Callable[[mpmath.mpf], mpmath.mpf]] = {
    "Elu": lambda x: x if x > 0 else mpmath.expm1(x),
    "Erf": mpmath.erf,
    "Gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "HardSwish": lambda x: x * min(max(x + 3, 0), 6) / 6,
    "Mish": lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))),
    "Relu": lambda x: max(x, mpmath.mpf(0)),
    "Sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "Softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "Softsign": lambda x: x / (1 + abs(x)),
    "Swish": lambda x: x / (1 + mpmath.exp(-x)),
    "Tanh": mpmath.tanh,
}
#: Functions of other parameters than the defaults, and their exact values.
MORE: dict[ActivationFunction, Callable[[mpmath.mpf], mpmath.mpf]] = {
    Elu(1.7): lambda x: x if x > 0 else mpmath.mpf(1.7) * mpmath.expm1(x),
    Elu(0.4): lambda x: x if x > 0 else mpmath.mpf(0.4) * mpmath.expm1(x),
    Gelu("tanh"): lambda x: x / (1 + mpmath.exp(-mpmath.sqrt(8 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3))),
}


def exact_value(function: ActivationFunction, x: mpmath.mpf | float, digits: int = 50) -> mpmath.mpf:
    """The function's value to this many digits."""
    with mpmath.workdps(digits):
        return (MORE[function] if function in MORE else EXACT[function.onnx_name])(mpmath.mpf(x))
