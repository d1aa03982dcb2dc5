"""Activations, and operators that are decomposed into ReLUs."""

from __future__ import annotations

import numpy as np

from kreludomain.errors import InputError
from kreludomain.network.lowering import clip, leaky_relu
from kreludomain.network.onnx.operators.context import Converted, NodeContext, compact, fitted
from kreludomain.network.operators import Activation, Relu, Sigmoid, Tanh


def _activation(kind: type[Activation], context: NodeContext) -> Converted:
    return Converted(kind(compact(context.shape())), context.shape())


def _leaky_relu(context: NodeContext) -> Converted:
    return Converted(leaky_relu(compact(context.shape()), context.attribute("alpha", 0.01)), context.shape())


def _prelu(context: NodeContext) -> Converted:
    slope = context.required(1, "the slope")
    if np.broadcast_shapes(slope.shape, context.shape()) != context.shape():
        raise InputError(f"a slope of shape {slope.shape} does not fit an input of shape {context.shape()}")
    return Converted(leaky_relu(compact(context.shape()), fitted(slope, context.shape())), context.shape())


def _clip(context: NodeContext) -> Converted:
    """RowColumnBounds are attributes before opset 11, inputs since; a side that is left out is none."""
    sides = []
    for position, (name, none) in enumerate((("min", -np.inf), ("max", np.inf)), 1):
        given = context.optional(position, name)
        value = context.attribute(name, none) if given is None else given
        sides.append(float(np.asarray(value).reshape(())))
    largest = float(np.finfo(np.float32).max)  # exporters write it for a side that does not clip
    lower, upper = (-np.inf if sides[0] <= -largest else sides[0]), (np.inf if sides[1] >= largest else sides[1])
    if (lower, upper) == (-np.inf, np.inf):
        return Converted(None, context.shape())
    return Converted(clip(compact(context.shape()), lower, upper), context.shape())


ACTIVATIONS = {
    "Clip": _clip,
    "LeakyRelu": _leaky_relu,
    "PRelu": _prelu,
    "Relu": lambda context: _activation(Relu, context),
    "Sigmoid": lambda context: _activation(Sigmoid, context),
    "Tanh": lambda context: _activation(Tanh, context),
}
