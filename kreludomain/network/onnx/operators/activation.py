"""Activations, and operators that are decomposed into ReLUs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from onnx import TensorProto

from kreludomain.activations import ACTIVATIONS, ActivationFunction, Elu, Silu
from kreludomain.errors import InputError
from kreludomain.network.lowering import absolute, chain, clip, leaky_relu
from kreludomain.network.onnx.operators.context import Converted, NodeContext, compact, fitted, weight
from kreludomain.network.onnx.operators.gate import logarithm
from kreludomain.network.operators import Activation, Scale


def _activation(kind: type[ActivationFunction]) -> Callable[[NodeContext], Converted]:
    """An activation whose fields are the operator's attributes."""

    def read(context: NodeContext) -> Converted:
        given = {f.name: context.attribute(f.name, f.default) for f in dataclasses.fields(kind)}
        function = kind(**{name: v.decode() if isinstance(v, bytes) else v for name, v in given.items()})
        return Converted(Activation(function, compact(context.shape())), context.shape())

    return read


def _scaled(context: NodeContext, inner: float, function: ActivationFunction, outer: float) -> Converted:
    """``outer * function(inner * x)``."""
    shape = compact(context.shape())
    factors = (torch.tensor(factor, dtype=torch.float64) for factor in (inner, outer))
    first, last = (Scale(factor, None, shape) for factor in factors)
    steps = [Activation(function, shape), *([] if outer == 1 else [last])]
    return Converted(chain(*([] if inner == 1 else [first]), *steps), context.shape())


def _celu(context: NodeContext) -> Converted:
    """``alpha ELU(x / alpha)``."""
    alpha = float(context.attribute("alpha", 1.0))
    if not alpha > 0:
        raise InputError(f"alpha {alpha:g}; a positive one is supported")
    return _scaled(context, 1 / alpha, Elu(), alpha)


def _selu(context: NodeContext) -> Converted:
    """``gamma ELU(x)``; the defaults are of Klambauer et al., NeurIPS 2017."""
    alpha = float(context.attribute("alpha", 1.67326319217681884765625))
    return _scaled(context, 1.0, Elu(alpha), float(context.attribute("gamma", 1.05070102214813232421875)))


def _swish(context: NodeContext) -> Converted:
    """``x sigmoid(alpha x)``, which is ``SiLU(alpha x) / alpha``."""
    alpha = float(context.attribute("alpha", 1.0))
    if not alpha:
        raise InputError("alpha is zero")
    return _scaled(context, alpha, Silu(), 1 / alpha)


def _leaky_relu(context: NodeContext) -> Converted:
    return Converted(leaky_relu(compact(context.shape()), context.attribute("alpha", 0.01)), context.shape())


def _prelu(context: NodeContext) -> Converted:
    slope = context.required(1, "the slope")
    if np.broadcast_shapes(slope.shape, context.shape()) != context.shape():
        raise InputError(f"a slope of shape {slope.shape} does not fit an input of shape {context.shape()}")
    return Converted(leaky_relu(compact(context.shape()), fitted(slope, context.shape())), context.shape())


def _clip(context: NodeContext) -> Converted:
    """Bounds are attributes before opset 11, inputs since; a side that is left out is none."""
    shape, largest = context.shape(), float(np.finfo(np.float32).max)  # exporters write it for a side without a bound
    sides = []
    for position, (name, none) in enumerate((("min", -np.inf), ("max", np.inf)), 1):
        given = context.optional(position, name)
        value = np.asarray(context.attribute(name, none) if given is None else given, dtype=np.float64)
        if np.broadcast_shapes(value.shape, shape) != shape and value.size != 1:
            raise InputError(f"{name} of shape {value.shape} does not fit an input of shape {shape}")
        value = value.reshape(()) if value.size == 1 else value
        sides.append(fitted(np.where(np.abs(value) >= largest, np.copysign(np.inf, value), value), shape))
    lower, upper = sides
    if bool((lower == -np.inf).all() and (upper == np.inf).all()):
        return Converted(None, shape)
    return Converted(clip(compact(shape), lower, upper), shape)


def _absolute(context: NodeContext) -> Converted:
    return Converted(absolute(compact(context.shape())), context.shape())


def _hard_sigmoid(context: NodeContext) -> Converted:
    """``min(max(alpha x + beta, 0), 1)``."""
    shape = compact(context.shape())
    alpha, beta = (weight(np.array(context.attribute(n, d))) for n, d in (("alpha", 0.2), ("beta", 0.5)))
    return Converted(chain(Scale(alpha, beta, shape), clip(shape, 0.0, 1.0)), context.shape())


def _cast(context: NodeContext) -> Converted:
    """From one kind of floating-point numbers to another: numbers are real here."""
    if context.is_condition():  # 1 where it holds, 0 elsewhere: only a product can do with that
        return Converted(None, context.shape(), condition=True)
    to = context.attribute("to")
    to = TensorProto.DataType.Value(to.decode()) if isinstance(to, bytes) else int(to)  # a name in opsets before 6
    if to not in (TensorProto.FLOAT, TensorProto.DOUBLE):
        raise InputError(f"to {TensorProto.DataType.Name(to)}, which rounds; FLOAT and DOUBLE are supported")
    return Converted(None, context.shape())


def _cast_like(context: NodeContext) -> Converted:
    like = context.constant(1)
    if like is not None and like.dtype not in (np.float32, np.float64):
        raise InputError(f"to {like.dtype}, which rounds; float32 and float64 are supported")
    context.inputs[:] = context.inputs[:1]
    return Converted(None, context.shape())


ENTRYWISE: dict[str, Callable[[NodeContext], Converted]] = {
    **{name: _activation(kind) for name, kind in ACTIVATIONS.items()},
    "Abs": _absolute,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Celu": _celu,
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": _leaky_relu,
    "Log": logarithm,
    "PRelu": _prelu,
    "Selu": _selu,
    "Swish": _swish,
}
