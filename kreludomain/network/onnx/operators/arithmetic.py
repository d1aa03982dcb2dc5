"""Arithmetic that is affine: products with constants, sums, normalisation."""

from __future__ import annotations

import numpy as np
import torch

from kreludomain.errors import InputError
from kreludomain.network.onnx.operators.context import Converted, NodeContext, compact, fitted, weight
from kreludomain.network.operators import Linear, Permute, Reshape, Scale, Sum

_ONE = torch.ones((), dtype=torch.float64)


def _gemm(context: NodeContext) -> Converted:
    """``alpha A B + beta C`` with ``A`` from the input."""
    if context.constant(0) is not None or len(context.shape()) != 2:
        raise InputError("A must depend on the input and have two axes; B and C must be constants")
    factor = weight(context.required(1, "B")) * context.attribute("alpha", 1.0)
    factor = (factor if context.attribute("transB", 0) else factor.T).contiguous()
    rows, columns = context.shape()
    if context.attribute("transA", 0):
        context.reshape(compact((rows, columns)), (rows, columns))
        context.insert_before(Permute((rows, columns), (1, 0)))
        context.reshape((columns, rows), compact((columns, rows)))
        rows, columns = columns, rows
    shape, in_shape = (rows, len(factor)), compact((rows, columns))
    bias = context.optional(2, "C")
    if bias is None:
        return Converted(Linear(factor, None, in_shape), shape)
    try:
        added = weight(np.broadcast_to(bias, shape)) * context.attribute("beta", 1.0)
    except ValueError:
        raise InputError(f"a bias of shape {bias.shape} does not fit {len(factor)} outputs") from None
    if rows == 1:
        return Converted(Linear(factor, added[0], in_shape), shape)
    context.insert_before(Linear(factor, None, in_shape))
    return Converted(Scale(_ONE, added, shape), shape)


def _matmul(context: NodeContext) -> Converted:
    """A product with a constant matrix on either side, over the last axes of the value."""
    if context.constant(1) is not None:
        return _times_matrix(context, weight(context.required(1, "")))
    if context.constant(0) is None:
        raise InputError("one of both factors must be a constant; a product of two values is not affine")
    factor, shape = weight(context.required(0, "")), context.shape(1)
    context.inputs.reverse()
    if len(shape) == 1:
        return _times_matrix(context, factor.mT)
    # W x is the transpose of x^T W^T
    order = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
    context.reshape(compact(shape), shape)
    context.insert_before(Permute(shape, order))
    factor = _matrix(factor)
    context.insert_before(Linear(factor.contiguous(), None, tuple(shape[axis] for axis in order)))
    turned = (*(shape[axis] for axis in order[:-1]), len(factor))
    result = tuple(turned[axis] for axis in order)
    if compact(result) == result:
        return Converted(Permute(turned, order), result)
    context.insert_before(Permute(turned, order))
    return Converted(Reshape(result, compact(result)), result)


def _times_matrix(context: NodeContext, factor: torch.Tensor) -> Converted:
    shape = context.shape()
    if factor.dim() == 1:
        context.insert_before(Linear(factor[None].contiguous(), None, compact(shape)))
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


def _operands(context: NodeContext) -> tuple[int, np.ndarray | None, tuple[int, ...]]:
    """Which operand comes from the input, the other one if it is a constant, and the shape both broadcast to."""
    shapes = context.shape(0), context.shape(1)
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise InputError(f"operands of shapes {shapes[0]} and {shapes[1]} do not fit each other") from None
    value = 0 if context.constant(0) is None else 1
    context.broadcast(value, shape)
    other = context.constant(1 - value)
    if other is None:
        context.broadcast(1 - value, shape)
    return value, other, shape


def _sum(context: NodeContext, sign: int) -> Converted:
    """``a + sign * b``."""
    value, constant, shape = _operands(context)
    if constant is None:
        return Converted(Sum((1, sign), compact(shape)), shape)
    multiplier, shift = (1, sign) if value == 0 else (sign, 1)
    return Converted(Scale(multiplier * _ONE, shift * fitted(constant, shape), compact(shape)), shape)


def _mul(context: NodeContext) -> Converted:
    _, constant, shape = _operands(context)
    if constant is None:
        raise InputError("a product of two values that depend on the input is not affine")
    return Converted(Scale(fitted(constant, shape), None, compact(shape)), shape)


def _div(context: NodeContext) -> Converted:
    divisor = context.required(1, "the divisor")
    _, _, shape = _operands(context)
    return Converted(Scale(1.0 / fitted(divisor, shape), None, compact(shape)), shape)


def _neg(context: NodeContext) -> Converted:
    return Converted(Scale(-_ONE, None, compact(context.shape())), context.shape())


def _batch_normalization(context: NodeContext) -> Converted:
    if context.attribute("training_mode", 0) or not context.attribute("spatial", 1):
        raise InputError("training_mode=1 and spatial=0 are not supported")
    names, shape = ("scale", "B", "mean", "var"), context.shape()
    scale, bias, mean, variance = (weight(context.required(i + 1, name)) for i, name in enumerate(names))
    multiplier = scale / torch.sqrt(variance + context.attribute("epsilon", 1e-5))
    channels = shape[1] if len(shape) > 1 else 1
    if len(multiplier) != channels:
        raise InputError(f"{len(multiplier)} factors for {channels} channels")
    form = (channels,) + (1,) * (len(shape) - 2)
    factor, added = (fitted(v.reshape(form).numpy(), shape) for v in (multiplier, bias - mean * multiplier))
    return Converted(Scale(factor, added, compact(shape)), shape)


ARITHMETIC = {
    "Add": lambda context: _sum(context, 1),
    "BatchNormalization": _batch_normalization,
    "Div": _div,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Mul": _mul,
    "Neg": _neg,
    "Sub": lambda context: _sum(context, -1),
}
