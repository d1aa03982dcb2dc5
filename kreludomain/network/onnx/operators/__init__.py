"""How each ONNX operator is read: one table, one entry an operator."""

from __future__ import annotations

from collections.abc import Callable

from kreludomain.network.onnx.operators.activation import ENTRYWISE
from kreludomain.network.onnx.operators.arithmetic import ARITHMETIC
from kreludomain.network.onnx.operators.condition import CONDITIONS, TAKE_CONDITIONS
from kreludomain.network.onnx.operators.context import Converted, NodeContext, compact
from kreludomain.network.onnx.operators.image import IMAGES
from kreludomain.network.onnx.operators.layout import LAYOUT
from kreludomain.network.onnx.operators.product import PRODUCTS
from kreludomain.network.onnx.operators.reduction import REDUCTIONS
from kreludomain.network.onnx.operators.refusals import refusal
from kreludomain.network.onnx.operators.resize import RESIZES
from kreludomain.network.onnx.operators.selection import SELECTIONS

#: A reader returns what its node's output is, or a list with an entry for each of several outputs.
READERS: dict[str, Callable[[NodeContext], Converted | list[Converted]]] = {
    **ARITHMETIC,
    **CONDITIONS,
    **ENTRYWISE,
    **IMAGES,
    **LAYOUT,
    **PRODUCTS,
    **REDUCTIONS,
    **RESIZES,
    **SELECTIONS,
}

__all__ = ["READERS", "TAKE_CONDITIONS", "Converted", "NodeContext", "compact", "refusal"]
