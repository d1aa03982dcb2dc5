"""Activations, and operators that are decomposed into ReLUs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kreludomain.activations import ACTIVATIONS, ActivationFunction, Gelu
from kreludomain.errors import InputError
from kreludomain.network.lowering import clip, leaky_relu
from kreludomain.network.onnx.operators.context import Converted, NodeContext, compact, fitted
from kreludomain.network.operators import Activation


def _activation(function: ActivationFunction) -> Callable[[NodeContext], Converted]:
    return lambda context: Converted(Activation(function, compact(context.shape())), context.shape())


def _gelu(context: NodeContext) -> Converted:
    approximate = bytes(context.attribute("approximate", b"none")).decode()
    if approximate != "none":
        raise InputError(f"approximate '{approximate}' is another function; 'none' is supported")
    return _activation(Gelu())(context)


def _leaky_relu(context: NodeContext) -> Converted:
    return Converted(leaky_relu(compact(context.shape()), context.attribute("alpha", 0.01)), context.shape())


def _prelu(context: NodeContext) -> Converted:
    slope = context.required(1, "the slope")
    if np.broadcast_shapes(slope.shape, context.shape()) != context.shape():
        raise InputError(f"a slope of shape {slope.shape} does not fit an input of shape {context.shape()}")
    return Converted(leaky_relu(compact(context.shape()), fitted(slope, context.shape())), context.shape())


def _clip(context: NodeContext) -> Converted:
    """Bounds are attributes before opset 11, inputs since; a side that is left out is none."""
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


ENTRYWISE: dict[str, Callable[[NodeContext], Converted]] = {
    **{name: _activation(kind()) for name, kind in ACTIVATIONS.items()},
    "Clip": _clip,
    "Gelu": _gelu,
    "LeakyRelu": _leaky_relu,
    "PRelu": _prelu,
}
