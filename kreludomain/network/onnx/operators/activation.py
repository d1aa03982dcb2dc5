"""Activations, and what is lowered to ReLUs."""

from __future__ import annotations

import numpy as np

from kreludomain.errors import InputError
from kreludomain.network.lowering import clip, leaky_relu
from kreludomain.network.onnx.operators.context import Converted, NodeContext, compact, fitted
from kreludomain.network.operators import Activation, Relu, Sigmoid, Tanh


def _activation(kind: type[Activation], call: NodeContext) -> Converted:
    return Converted(kind(compact(call.shape())), call.shape())


def _leaky_relu(call: NodeContext) -> Converted:
    return Converted(leaky_relu(compact(call.shape()), call.attribute("alpha", 0.01)), call.shape())


def _prelu(call: NodeContext) -> Converted:
    slope = call.required(1, "the slope")
    if np.broadcast_shapes(slope.shape, call.shape()) != call.shape():
        raise InputError(f"a slope of shape {slope.shape} does not fit an input of shape {call.shape()}")
    return Converted(leaky_relu(compact(call.shape()), fitted(slope, call.shape())), call.shape())


def _clip(call: NodeContext) -> Converted:
    """RowColumnBounds are attributes before opset 11, inputs since; a side that is left out is none."""
    sides = []
    for position, (name, none) in enumerate((("min", -np.inf), ("max", np.inf)), 1):
        given = call.optional(position, name)
        value = call.attribute(name, none) if given is None else given
        sides.append(float(np.asarray(value).reshape(())))
    largest = float(np.finfo(np.float32).max)  # what exporters write where a side is none
    lower, upper = (-np.inf if sides[0] <= -largest else sides[0]), (np.inf if sides[1] >= largest else sides[1])
    if (lower, upper) == (-np.inf, np.inf):
        return Converted(None, call.shape())
    return Converted(clip(compact(call.shape()), lower, upper), call.shape())


ACTIVATIONS = {
    "Clip": _clip,
    "LeakyRelu": _leaky_relu,
    "PRelu": _prelu,
    "Relu": lambda call: _activation(Relu, call),
    "Sigmoid": lambda call: _activation(Sigmoid, call),
    "Tanh": lambda call: _activation(Tanh, call),
}
