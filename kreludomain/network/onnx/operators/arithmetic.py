"""Arithmetic that is affine: products with constants, sums, normalisation."""

from __future__ import annotations

import numpy as np
import torch

from kreludomain.errors import InputError
from kreludomain.network.onnx.operators.context import Converted, NodeContext, compact, fitted, weight
from kreludomain.network.operators import Linear, Permute, Reshape, Scale, Sum

_ONE = torch.ones((), dtype=torch.float64)


def _gemm(call: NodeContext) -> Converted:
    """``alpha A B + beta C`` with ``A`` from the input."""
    if call.constant(0) is not None or len(call.shape()) != 2:
        raise InputError("A must depend on the input and have two axes; B and C must be constants")
    factor = weight(call.required(1, "B")) * call.attribute("alpha", 1.0)
    factor = (factor if call.attribute("transB", 0) else factor.T).contiguous()
    rows, columns = call.shape()
    if call.attribute("transA", 0):
        call.reshape(compact((rows, columns)), (rows, columns))
        call.through(Permute((rows, columns), (1, 0)))
        call.reshape((columns, rows), compact((columns, rows)))
        rows, columns = columns, rows
    shape, in_shape = (rows, len(factor)), compact((rows, columns))
    bias = call.optional(2, "C")
    if bias is None:
        return Converted(Linear(factor, None, in_shape), shape)
    try:
        added = weight(np.broadcast_to(bias, shape)) * call.attribute("beta", 1.0)
    except ValueError:
        raise InputError(f"a bias of shape {bias.shape} does not fit {len(factor)} outputs") from None
    if rows == 1:
        return Converted(Linear(factor, added[0], in_shape), shape)
    call.through(Linear(factor, None, in_shape))
    return Converted(Scale(_ONE, added, shape), shape)


def _matmul(call: NodeContext) -> Converted:
    """A product with a constant matrix on either side, over the last axes of the value."""
    if call.constant(1) is not None:
        return _times_matrix(call, weight(call.required(1, "")))
    if call.constant(0) is None:
        raise InputError("one of both factors must be a constant; a product of two values is not affine")
    factor, shape = weight(call.required(0, "")), call.shape(1)
    call.inputs.reverse()
    if len(shape) == 1:
        return _times_matrix(call, factor.mT)
    # W x is the transpose of x^T W^T
    order = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
    call.reshape(compact(shape), shape)
    call.through(Permute(shape, order))
    factor = _matrix(factor)
    call.through(Linear(factor.contiguous(), None, tuple(shape[axis] for axis in order)))
    turned = (*(shape[axis] for axis in order[:-1]), len(factor))
    result = tuple(turned[axis] for axis in order)
    if compact(result) == result:
        return Converted(Permute(turned, order), result)
    call.through(Permute(turned, order))
    return Converted(Reshape(result, compact(result)), result)


def _times_matrix(call: NodeContext, factor: torch.Tensor) -> Converted:
    shape = call.shape()
    if factor.dim() == 1:
        call.through(Linear(factor[None].contiguous(), None, compact(shape)))
        narrow = (*compact(shape)[:-1], 1)
        return Converted(Reshape(narrow, compact(shape[:-1])), shape[:-1])
    factor = _matrix(factor)
    return Converted(Linear(factor.T.contiguous(), None, compact(shape)), (*shape[:-1], factor.shape[1]))


def _matrix(factor: torch.Tensor) -> torch.Tensor:
    while factor.dim() > 2 and factor.shape[0] == 1:
        factor = factor[0]
    if factor.dim() != 2:
        raise InputError(f"a constant factor of shape {tuple(factor.shape)}; a matrix is supported")
    return factor


def _operands(call: NodeContext) -> tuple[int, np.ndarray | None, tuple[int, ...]]:
    """Which operand comes from the input, the other one if it is a constant, and the shape both broadcast to."""
    shapes = call.shape(0), call.shape(1)
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise InputError(f"operands of shapes {shapes[0]} and {shapes[1]} do not fit each other") from None
    value = 0 if call.constant(0) is None else 1
    call.broadcast(value, shape)
    other = call.constant(1 - value)
    if other is None:
        call.broadcast(1 - value, shape)
    return value, other, shape


def _sum(call: NodeContext, sign: int) -> Converted:
    """``a + sign * b``."""
    value, constant, shape = _operands(call)
    if constant is None:
        return Converted(Sum((1, sign), compact(shape)), shape)
    multiplier, shift = (1, sign) if value == 0 else (sign, 1)
    return Converted(Scale(multiplier * _ONE, shift * fitted(constant, shape), compact(shape)), shape)


def _mul(call: NodeContext) -> Converted:
    _, constant, shape = _operands(call)
    if constant is None:
        raise InputError("a product of two values that depend on the input is not affine")
    return Converted(Scale(fitted(constant, shape), None, compact(shape)), shape)


def _div(call: NodeContext) -> Converted:
    call.required(1, "the divisor")
    _, constant, shape = _operands(call)
    assert constant is not None
    return Converted(Scale(1.0 / fitted(constant, shape), None, compact(shape)), shape)


def _neg(call: NodeContext) -> Converted:
    return Converted(Scale(-_ONE, None, compact(call.shape())), call.shape())


def _batch_normalization(call: NodeContext) -> Converted:
    if call.attribute("training_mode", 0) or not call.attribute("spatial", 1):
        raise InputError("training_mode=1 and spatial=0 are not supported")
    names, shape = ("scale", "B", "mean", "var"), call.shape()
    scale, bias, mean, variance = (weight(call.required(i + 1, name)) for i, name in enumerate(names))
    multiplier = scale / torch.sqrt(variance + call.attribute("epsilon", 1e-5))
    channels = shape[1] if len(shape) > 1 else 1
    if len(multiplier) != channels:
        raise InputError(f"{len(multiplier)} factors for {channels} channels")
    form = (channels,) + (1,) * (len(shape) - 2)
    factor, added = (fitted(v.reshape(form).numpy(), shape) for v in (multiplier, bias - mean * multiplier))
    return Converted(Scale(factor, added, compact(shape)), shape)


ARITHMETIC = {
    "Add": lambda call: _sum(call, 1),
    "BatchNormalization": _batch_normalization,
    "Div": _div,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Mul": _mul,
    "Neg": _neg,
    "Sub": lambda call: _sum(call, -1),
}
