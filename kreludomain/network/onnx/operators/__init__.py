"""How each ONNX operator is read: one table, one entry an operator."""

from __future__ import annotations

from collections.abc import Callable

from kreludomain.network.onnx.operators.activation import ENTRYWISE
from kreludomain.network.onnx.operators.arithmetic import ARITHMETIC
from kreludomain.network.onnx.operators.context import Converted, NodeContext, compact
from kreludomain.network.onnx.operators.image import IMAGES
from kreludomain.network.onnx.operators.layout import LAYOUT

READERS: dict[str, Callable[[NodeContext], Converted]] = {**ARITHMETIC, **ENTRYWISE, **IMAGES, **LAYOUT}

__all__ = ["READERS", "Converted", "NodeContext", "compact"]
