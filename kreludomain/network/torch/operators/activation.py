"""Activations, and functions of one entry that are made of ReLUs."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network.torch.operators.base import Graph, Writer
from kreludomain.network.torch.recorder import Step

_SELU = (1.6732632423543772, 1.0507009873554805)


def _entrywise(op_type: str) -> Writer:
    return lambda graph, step: graph.add(op_type, graph.operand(step.arguments["self"]))


def _clamp(graph: Graph, step: Step) -> str:
    """Sides are numbers, or tensors that broadcast."""
    name = graph.operand(step.arguments["self"])
    lower, upper = step.arguments.get("min"), step.arguments.get("max")
    if not isinstance(lower, Tensor) and not isinstance(upper, Tensor):
        return _clip(graph, name, lower, upper)
    for side, op_type in ((lower, "Max"), (upper, "Min")):
        if side is not None:
            name = graph.add(op_type, name, graph.operand(side))
    return name


def _clip(graph: Graph, name: str, lower: float | None, upper: float | None) -> str:
    if lower == 0 and upper is None:
        return graph.add("Relu", name)
    return graph.add("Clip", name, *("" if side is None else graph.operand(side) for side in (lower, upper)))


def _hardtanh(graph: Graph, step: Step) -> str:
    return _clip(graph, graph.operand(step.arguments["self"]), step.arguments["min_val"], step.arguments["max_val"])


def _threshold(graph: Graph, step: Step) -> str:
    if step.arguments["threshold"] != step.arguments["value"]:
        raise InputError("a threshold whose value differs from it is a step")
    return _clip(graph, graph.operand(step.arguments["self"]), step.arguments["threshold"], None)


def _leaky(graph: Graph, name: str, slope: float) -> str:
    """In float64 ``slope x + (1 - slope) ReLU(x)``, since the slope of LeakyRelu is a float32 number."""
    if graph.number != np.float64:
        return graph.add("LeakyRelu", name, alpha=slope)
    below = graph.add("Mul", name, graph.operand(slope))
    return graph.add("Add", below, graph.add("Mul", graph.add("Relu", name), graph.operand(1 - slope)))


def _leaky_relu(graph: Graph, step: Step) -> str:
    return _leaky(graph, graph.operand(step.arguments["self"]), step.arguments["negative_slope"])


def _rrelu(graph: Graph, step: Step) -> str:
    slope = (step.arguments["lower"] + step.arguments["upper"]) / 2
    return _leaky(graph, graph.operand(step.arguments["self"]), slope)


def _prelu(graph: Graph, step: Step) -> str:
    return graph.add("PRelu", graph.operand(step.arguments["self"]), graph.operand(step.arguments["weight"]))


def _elu(graph: Graph, step: Step) -> str:
    alpha, scale, inner = (step.arguments[name] for name in ("alpha", "scale", "input_scale"))
    name = graph.operand(step.arguments["self"])
    if (alpha, scale) == _SELU and inner == 1:
        return graph.add("Selu", name)
    if scale != 1 or inner != 1:
        raise InputError("an ELU with another scale is not supported")
    return graph.add("Elu", name, alpha=alpha)


def _gelu(graph: Graph, step: Step) -> str:
    return graph.add("Gelu", graph.operand(step.arguments["self"]), approximate=step.arguments["approximate"])


def _silu(graph: Graph, step: Step) -> str:
    name = graph.operand(step.arguments["self"])
    return graph.add("Mul", name, graph.add("Sigmoid", name))


def _softplus(graph: Graph, step: Step) -> str:
    """``log(1 + exp(beta x)) / beta``. From ``threshold`` on torch takes ``x``, which is then as good."""
    beta, threshold = step.arguments["beta"], step.arguments["threshold"]
    name = graph.operand(step.arguments["self"])
    if threshold < 20:
        raise InputError(f"threshold {threshold:g}; from 20 up is supported, where it changes nothing")
    if beta == 1:
        return graph.add("Softplus", name)
    inner = graph.add("Softplus", graph.add("Mul", name, graph.operand(beta)))
    return graph.add("Div", inner, graph.operand(beta))


def _log_sigmoid(graph: Graph, step: Step) -> str:
    """``-softplus(-x)``; the second result is only for the gradient."""
    negated = graph.add("Neg", graph.operand(step.arguments["self"]))
    return graph.add("Neg", graph.add("Softplus", negated))


def _hardsigmoid(graph: Graph, step: Step) -> str:
    """``clip(x + 3, 0, 6) / 6``."""
    shifted = graph.add("Add", graph.operand(step.arguments["self"]), graph.operand(3.0))
    return graph.add("Div", _clip(graph, shifted, 0.0, 6.0), graph.operand(6.0))


def _softshrink(graph: Graph, step: Step) -> str:
    """``ReLU(x - lambda) - ReLU(-x - lambda)``."""
    name, margin = graph.operand(step.arguments["self"]), graph.operand(step.arguments["lambd"])
    above = graph.add("Relu", graph.add("Sub", name, margin))
    below = graph.add("Relu", graph.add("Sub", graph.add("Neg", name), margin))
    return graph.add("Sub", above, below)


def _softmax(op_type: str) -> Writer:
    return lambda graph, step: graph.add(op_type, graph.operand(step.arguments["self"]), axis=step.arguments["dim"])


ACTIVATIONS: dict[str, Writer] = {
    "relu": _entrywise("Relu"),
    "sigmoid": _entrywise("Sigmoid"),
    "tanh": _entrywise("Tanh"),
    "hardswish": _entrywise("HardSwish"),
    "mish": _entrywise("Mish"),
    "abs": _entrywise("Abs"),
    "sign": _entrywise("Sign"),
    "exp": _entrywise("Exp"),
    "log": _entrywise("Log"),
    "sqrt": _entrywise("Sqrt"),
    "reciprocal": _entrywise("Reciprocal"),
    "erf": _entrywise("Erf"),
    "atan": _entrywise("Atan"),
    "sin": _entrywise("Sin"),
    "cos": _entrywise("Cos"),
    "floor": _entrywise("Floor"),
    "ceil": _entrywise("Ceil"),
    "round": _entrywise("Round"),
    "clamp": _clamp,
    "clamp_min": _clamp,
    "clamp_max": _clamp,
    "hardtanh": _hardtanh,
    "threshold": _threshold,
    "leaky_relu": _leaky_relu,
    "rrelu_with_noise": _rrelu,
    "_prelu_kernel": _prelu,
    "elu": _elu,
    "celu": lambda graph, step: graph.add("Celu", graph.operand(step.arguments["self"]), alpha=step.arguments["alpha"]),
    "gelu": _gelu,
    "silu": _silu,
    "softplus": _softplus,
    "log_sigmoid_forward": _log_sigmoid,
    "hardsigmoid": _hardsigmoid,
    "softshrink": _softshrink,
    "_softmax": _softmax("Softmax"),
    "_log_softmax": _softmax("LogSoftmax"),
}
