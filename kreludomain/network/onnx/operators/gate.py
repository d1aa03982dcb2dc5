"""Activations that are written as a product or a quotient of a value and a function of it."""

from __future__ import annotations

import math

from kreludomain.activations import (
    ActivationFunction,
    Erf,
    Gelu,
    HardSwish,
    Mish,
    Sigmoid,
    Silu,
    Softplus,
    Softsign,
    Tanh,
)
from kreludomain.errors import InputError
from kreludomain.network.onnx.operators.context import Converted, NodeContext
from kreludomain.network.onnx.operators.expression import (
    TOLERANCE,
    close,
    composition,
    line_of,
    piecewise,
    scaled_activation,
)
from kreludomain.network.operators import Activation

#: ``x f(g(...(x)))`` as ``k F(x)``, by ``c / k`` of ``k f(g(...)) + c``, with ``k F`` for ``k = 1``.
_GATES: list[tuple[list[ActivationFunction], float, float, ActivationFunction, float]] = [
    ([Sigmoid()], 0.0, 1.0, Silu(), 1.0),
    ([Tanh(), Softplus()], 0.0, 1.0, Mish(), 1.0),
    ([Erf()], 1.0, math.sqrt(0.5), Gelu(), 2.0),
    ([Tanh()], 1.0, 0.5, Silu(), 2.0),
]


def gated(context: NodeContext) -> Converted | None:
    """The product of the first two inputs, if it is an activation of one value: ``x g(x)``; ``None`` if it is not."""
    nodes = context.source.nodes_by_name
    for x, gate in ((0, 1), (1, 0)):
        base, name = (context.source.computed_by[context.inputs[i]] for i in (x, gate))
        factor: float | None = 1.0
        while factor is not None:
            found = _activation_of_gate(context, name, base)
            if found is not None:
                function, inner, outer = found
                return scaled_activation(context, base, function, inner, factor * outer)
            line = line_of(nodes[base])
            factor = None if line is None or line[1] else factor * line[0]
            base = nodes[base].inputs[0] if factor is not None else base
    return None


def _activation_of_gate(context: NodeContext, name: str, base: str) -> tuple[ActivationFunction, float, float] | None:
    """``(F, m, k)`` with ``x g(x) = k F(m x)``."""
    core = composition(context.source.nodes_by_name, name, base)
    if core is not None:
        k, c, functions, inner = core
        for wanted, offset, unit, function, factor in _GATES:
            if functions == wanted and close(c, offset * k) and k and inner:
                m = _one_if_close(inner / unit)
                return function, m, k * factor / m
    found, at = piecewise(context, name, base)
    gate = found.simplified()
    if at == base and len(gate.knots) == 2 and gate.jump is None and gate.knots[1] > 0:
        m, top = _one_if_close(3 / gate.knots[1]), float(gate.intercepts[2])
        if gate.same([-3 / m, 3 / m], [0.0, top * m / 6, 0.0], TOLERANCE) and close(gate.intercepts[0], 0.0):
            return HardSwish(), m, _one_if_close(top) / m
    return None


def _one_if_close(number: float) -> float:
    return 1.0 if close(number, 1.0) else float(number)


def quotient(context: NodeContext) -> Converted | None:
    """The first input by the second, if it is softsign, ``x / (1 + |x|)``; ``None`` if it is not."""
    base, divisor = (context.source.computed_by[name] for name in context.inputs[:2])
    function, found = piecewise(context, divisor, base)
    below = function.simplified()
    if found != base or len(below.knots) != 1 or not below.intercepts[1]:
        return None
    k, m = below.intercepts[1], below.slopes[1] / below.intercepts[1]
    if m > 0 and below.same([0.0], [-k * m, k * m], TOLERANCE) and below.jump is None:
        return scaled_activation(context, base, Softsign(), float(m), float(1 / (k * m)))
    return None


def logarithm(context: NodeContext) -> Converted:
    """``log(sigmoid(x))``, which is ``-softplus(-x)``."""
    node = context.source.nodes_by_name[context.source.computed_by[context.inputs[0]]]
    if not isinstance(node.operator, Activation) or node.operator.function != Sigmoid():
        raise InputError("operator not supported: a logarithm is neither affine nor made of ReLUs, unless of a Sigmoid")
    return scaled_activation(context, node.inputs[0], Softplus(), -1.0, -1.0)
