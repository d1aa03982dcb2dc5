"""Conditions on values that depend on the input: comparisons, and what connects them.

A condition is read as the difference of what it compares; it holds where that is positive. Only operators that make
something continuous of it take one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from kreludomain.errors import InputError
from kreludomain.network.lowering import Decomposition, maximum, minimum
from kreludomain.network.onnx.operators.arithmetic import added
from kreludomain.network.onnx.operators.context import Converted, NodeContext, compact
from kreludomain.network.operators import Scale, Shape

#: The operators that take a condition, and as which inputs.
TAKE_CONDITIONS: dict[str, tuple[int, ...]] = {
    "And": (0, 1),
    "Cast": (0,),
    "Identity": (0,),
    "Mul": (0, 1),
    "Not": (0,),
    "Or": (0, 1),
    "Where": (0,),
}


def _connected(context: NodeContext, connect: Callable[[Shape], Decomposition]) -> Converted:
    """Both of two conditions, or one of them: where the least, or the largest, of what they compare is positive."""
    shape = context.shape(0)
    if len(context.dependent) < 2 or context.shape(1) != shape:
        raise InputError("conditions that both depend on the input, of one shape, are supported")
    return Converted(connect(compact(shape)), shape, condition=True)


def _negated(context: NodeContext) -> Converted:
    shape = context.shape()
    return Converted(Scale(-torch.ones((), dtype=torch.float64), None, compact(shape)), shape, condition=True)


def _greater(context: NodeContext) -> Converted:
    return added(context, -1)._replace(condition=True)


def _less(context: NodeContext) -> Converted:
    context.inputs.reverse()
    return _greater(context)


#: Comparisons, whose value is where a difference is positive. What happens where it is zero does not matter to a
#: continuous function.
CONDITIONS: dict[str, Callable[[NodeContext], Converted]] = {
    "And": lambda context: _connected(context, minimum),
    "Greater": _greater,
    "GreaterOrEqual": _greater,
    "Less": _less,
    "LessOrEqual": _less,
    "Not": _negated,
    "Or": lambda context: _connected(context, maximum),
}
