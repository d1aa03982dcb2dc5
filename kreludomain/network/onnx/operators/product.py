"""Products with constant matrices."""

from __future__ import annotations

import numpy as np
import torch

from kreludomain.errors import InputError
from kreludomain.network.onnx.operators.context import Converted, NodeContext, compact, weight
from kreludomain.network.operators import Linear, Permute, Reshape, Scale

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


PRODUCTS = {
    "Gemm": _gemm,
    "MatMul": _matmul,
}
