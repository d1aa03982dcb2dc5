"""Sums, means and extremes over axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from kreludomain.errors import InputError
from kreludomain.network.lowering import absolute, chain, largest, total
from kreludomain.network.onnx.operators.context import Converted, NodeContext, compact
from kreludomain.network.operators import Linear, Operator, Permute, Reshape, Scale, Shape


def _reduced_axes(context: NodeContext) -> list[int]:
    """The axes that go: an attribute in older opsets, an input in newer ones; all of them where there are none."""
    given, rank = context.attribute("axes"), len(context.shape())
    given = context.optional(1, "axes") if given is None else given
    axes = [] if given is None else [int(axis) for axis in np.asarray(given).ravel()]
    if not axes and not context.attribute("noop_with_empty_axes", 0):
        return list(range(rank))
    if any(not -rank <= axis < rank for axis in axes):
        raise InputError(f"axes {axes} of a value with {rank} axes")
    return sorted({axis % rank for axis in axes})


def rows_along(context: NodeContext, axes: Sequence[int]) -> tuple[int, int]:
    """Brings the first input into rows ``(rows, size)`` along some of its ONNX axes; returns both numbers."""
    shape = context.shape()
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    size = math.prod(shape[axis] for axis in axes)
    rows = context.size() // size
    context.arrange([*kept, *axes], (rows, size))
    return rows, size


def _reduced(context: NodeContext) -> tuple[list[int], Shape]:
    """The axes that go, and the shape of the value."""
    shape, axes = context.shape(), _reduced_axes(context)
    keep = context.attribute("keepdims", 1)
    context.inputs[:] = context.inputs[:1]
    return axes, tuple(1 if axis in axes else n for axis, n in enumerate(shape) if keep or axis not in axes)


def sum_over(context: NodeContext, axes: Sequence[int], shape: Shape, mean: bool = False) -> Converted:
    """The sum or the mean of the first input over axes; ``shape`` is the value's."""
    rows, size = rows_along(context, axes)
    if size == 1:
        return _column(shape)
    summed = total(rows, size, 1.0 / size if mean else 1.0)
    return Converted(chain(summed, Reshape(summed.out_shape, compact(shape))), shape)


def maximum_over(context: NodeContext, axes: Sequence[int], shape: Shape, least: bool = False) -> Converted:
    """The largest or the least entry of the first input over axes; ``shape`` is the value's."""
    rows, size = rows_along(context, axes)
    if size == 1:
        return _column(shape)
    made, minus = largest(rows, size, compact(shape)), -torch.ones((), dtype=torch.float64)
    if least:
        made = chain(Scale(minus, None, (rows, size)), made, Scale(minus, None, compact(shape)))
    return Converted(made, shape)


def _column(shape: Shape) -> Converted:
    """A value of one column, in another shape."""
    return Converted(Reshape((math.prod(shape), 1), compact(shape)), shape)


def _l1(context: NodeContext) -> Converted:
    axes, shape = _reduced(context)
    context.replace(Converted(absolute(compact(context.shape())), context.shape()))
    return sum_over(context, axes, shape)


def _cumulative_sum(context: NodeContext) -> Converted:
    """A triangular matrix along an axis."""
    shape, rank = context.shape(), len(context.shape())
    axis = int(context.required(1, "the axis").reshape(()))
    if not -rank <= axis < rank:
        raise InputError(f"axis {axis} of a value with {rank} axes")
    axis %= rank
    size = shape[axis]
    weight = torch.ones(size, size, dtype=torch.float64).tril(-1 if context.attribute("exclusive", 0) else 0)
    return along_axis(context, axis, weight.T.contiguous() if context.attribute("reverse", 0) else weight)


def along_axis(context: NodeContext, axis: int, weight: torch.Tensor) -> Converted:
    """A matrix ``(out, in)`` applied along an ONNX axis of the first input."""
    shape = context.shape()
    rest = (*shape[:axis], *shape[axis + 1 :])
    context.arrange([*(i for i in range(len(shape)) if i != axis), axis], (*rest, shape[axis]))
    made: list[Operator] = [Linear(weight, None, (*rest, shape[axis]))]
    last = len(rest)
    if axis != last:
        made.append(Permute(made[-1].out_shape, (*range(axis), last, *range(axis, last))))
    result = (*shape[:axis], len(weight), *shape[axis + 1 :])
    if compact(result) != result:
        made.append(Reshape(result, compact(result)))
    return Converted(chain(*made), result)


REDUCTIONS: dict[str, Callable[[NodeContext], Converted]] = {
    "CumSum": _cumulative_sum,
    "ReduceL1": _l1,
    "ReduceMax": lambda context: maximum_over(context, *_reduced(context)),
    "ReduceMean": lambda context: sum_over(context, *_reduced(context), mean=True),
    "ReduceMin": lambda context: maximum_over(context, *_reduced(context), least=True),
    "ReduceSum": lambda context: sum_over(context, *_reduced(context)),
}
