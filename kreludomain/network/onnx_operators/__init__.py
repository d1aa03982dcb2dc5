"""How each ONNX operator is read: one table, one entry an operator."""

from __future__ import annotations

from collections.abc import Callable

from kreludomain.network.onnx_operators.activation import ACTIVATIONS
from kreludomain.network.onnx_operators.arithmetic import ARITHMETIC
from kreludomain.network.onnx_operators.call import Call, Reading, compact
from kreludomain.network.onnx_operators.image import IMAGES
from kreludomain.network.onnx_operators.layout import LAYOUT

READERS: dict[str, Callable[[Call], Reading]] = {**ACTIVATIONS, **ARITHMETIC, **IMAGES, **LAYOUT}

__all__ = ["READERS", "Call", "Reading", "compact"]
