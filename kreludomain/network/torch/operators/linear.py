"""Operations that are linear and have no operator of their own in ONNX: products with their matrices."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network.torch.memory import Value
from kreludomain.network.torch.operators.base import Graph, Writer, result_shape
from kreludomain.network.torch.recorder import Step

#: The largest number of entries of a matrix.
_LARGEST = 2**26


def _linear(graph: Graph, step: Step) -> str:
    """The sum over the operands of what the operation makes of each while the others are zeros, and of zeros.

    That is the operation if it is affine in all operands that depend on the input together.
    """
    shape = result_shape(step)
    constant = _applied(step, {})
    total = graph.operand(constant.reshape(1, -1))
    for value in dict.fromkeys(step.values):
        size = torch.Size(value.shape).numel()
        if size * constant.numel() > _LARGEST:
            raise InputError(f"the matrix of {step.name} for {size} and {constant.numel()} entries is too large")
        units = torch.eye(size, dtype=torch.float64).view(size, *value.shape)
        matrix = torch.stack([(_applied(step, {value: unit}) - constant).flatten() for unit in units])
        product = graph.add("MatMul", graph.shaped(graph.operand(value), (1, size)), graph.operand(matrix))
        total = graph.add("Add", product, total)
    return graph.shaped(total, shape)


def _of_one(graph: Graph, step: Step) -> str:
    """A product of its operands, of which one may depend on the input."""
    if len(list(step.values)) > 1:
        raise InputError("a product of two values that depend on the input is not affine")
    return _linear(graph, step)


def _applied(step: Step, given: dict[Value, Tensor]) -> Tensor:
    """The operation on the tensors in ``given``, and on zeros in place of other values."""

    def tensor(argument: Any) -> Any:
        if isinstance(argument, Value):
            return given.get(argument, torch.zeros(argument.shape, dtype=torch.float64))
        if isinstance(argument, Tensor):
            return argument.cpu().double() if argument.is_floating_point() else argument.cpu()
        return [tensor(item) for item in argument] if isinstance(argument, list | tuple) else argument

    made: Tensor = step.operation(**{name: tensor(argument) for name, argument in step.arguments.items()})
    return made


LINEAR: dict[str, Writer] = {
    **dict.fromkeys(("col2im", "index_add", "scatter_add", "trace"), _linear),
    **dict.fromkeys(("linalg_cross", "_trilinear"), _of_one),
}
