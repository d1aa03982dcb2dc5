"""What tests know of each activation besides the package: torch's version of it, and its exact values."""

from __future__ import annotations

from collections.abc import Callable

import mpmath
from torch import Tensor, nn
from torch.nn import functional

from kreludomain.activations import ActivationFunction

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
    "Gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "HardSwish": lambda x: x * min(max(x + 3, 0), 6) / 6,
    "Relu": lambda x: max(x, mpmath.mpf(0)),
    "Sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "Softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "Tanh": mpmath.tanh,
}


def exact_value(function: ActivationFunction, x: mpmath.mpf | float, digits: int = 50) -> mpmath.mpf:
    """The function's value to this many digits."""
    with mpmath.workdps(digits):
        return EXACT[function.onnx_name](mpmath.mpf(x))
