"""Arithmetic entry by entry: sums, products with constants, normalisation, extremes."""

from __future__ import annotations

import functools

import numpy as np
import torch

from kreludomain.errors import InputError
from kreludomain.network.lowering import Decomposition, at_least, at_most, maximum, minimum
from kreludomain.network.onnx.operators.choice import chosen
from kreludomain.network.onnx.operators.context import Converted, NodeContext, compact, fitted, weight
from kreludomain.network.onnx.operators.gate import gated, quotient
from kreludomain.network.operators import Operator, Scale, Shape, Sum

_ONE = torch.ones((), dtype=torch.float64)


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


def added(context: NodeContext, sign: int) -> Converted:
    """``a + sign * b``."""
    value, constant, shape = _operands(context)
    if constant is None:
        return Converted(Sum((1, sign), compact(shape)), shape)
    multiplier, shift = (1, sign) if value == 0 else (sign, 1)
    return Converted(Scale(multiplier * _ONE, shift * fitted(constant, shape), compact(shape)), shape)


def _mul(context: NodeContext) -> Converted:
    for condition in context.dependent:
        if context.is_condition(condition):  # a mask
            return chosen(context, condition, 1 - condition, None)
    if len(context.dependent) == 2:
        made = gated(context) if context.shape(0) == context.shape(1) else None
        if made is None:
            raise InputError("a product of two values that depend on the input is not affine")
        return made
    _, constant, shape = _operands(context)
    if constant is None:
        raise InputError("no operand depends on the input")
    return Converted(Scale(fitted(constant, shape), None, compact(shape)), shape)


def _div(context: NodeContext) -> Converted:
    made = quotient(context) if len(context.dependent) == 2 and context.shape(0) == context.shape(1) else None
    if made is not None:
        return made
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
    factor, shift = (fitted(v.reshape(form).numpy(), shape) for v in (multiplier, bias - mean * multiplier))
    return Converted(Scale(factor, shift, compact(shape)), shape)


def _constants(context: NodeContext, combine: np.ufunc) -> tuple[np.ndarray | None, Shape]:
    """All constants of an operator of several inputs in one, and the shape that all inputs broadcast to; the others
    have it then."""
    every = range(len(context.inputs))
    shape = np.broadcast_shapes(*(context.shape(i) for i in every))
    for i in context.dependent:
        context.broadcast(i, shape)
    constants = [value.astype(np.float64) for i in every if (value := context.constant(i)) is not None]
    return (functools.reduce(combine, constants) if constants else None), shape


def _sum_of_all(context: NodeContext, mean: bool) -> Converted:
    factor = _ONE / len(context.inputs) if mean else _ONE
    constant, shape = _constants(context, np.add)
    count = len(context.dependent)
    steps: list[Operator | Decomposition] = [Sum((1,) * count, compact(shape))] if count > 1 else []
    if constant is not None or mean:
        added = None if constant is None else factor * fitted(constant, shape)
        steps.append(Scale(factor, added, compact(shape)))
    return _applied(context, steps, shape)


def _extreme(context: NodeContext, greatest: bool) -> Converted:
    """The largest or the least of several values, constants among them."""
    constant, shape = _constants(context, np.maximum if greatest else np.minimum)
    all_of, bounded = (maximum, at_least) if greatest else (minimum, at_most)
    steps: list[Operator | Decomposition] = [all_of(compact(shape))] if len(context.dependent) > 1 else []
    if constant is not None:
        steps.append(bounded(compact(shape), fitted(constant, shape)))
    return _applied(context, steps, shape)


def _applied(context: NodeContext, steps: list[Operator | Decomposition], shape: Shape) -> Converted:
    """Steps one after the other, the first of all inputs that depend on the network's."""
    for step in steps[:-1]:
        context.join(step)
    return Converted(steps[-1] if steps else None, shape)


ARITHMETIC = {
    "Add": lambda context: added(context, 1),
    "BatchNormalization": _batch_normalization,
    "Div": _div,
    "Max": lambda context: _extreme(context, greatest=True),
    "Mean": lambda context: _sum_of_all(context, mean=True),
    "Min": lambda context: _extreme(context, greatest=False),
    "Mul": _mul,
    "Neg": _neg,
    "Sub": lambda context: added(context, -1),
    "Sum": lambda context: _sum_of_all(context, mean=False),
}
