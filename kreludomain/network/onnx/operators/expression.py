"""Functions of single entries that exporters spell out: conditions, gates and quotients of one value with itself.

A file may have ``Where(x > 0, x, 0)`` for ``Relu``, or ``x * Sigmoid(x)`` for an activation that its opset does not
have. Taken one by one, the last of these operators are not affine; all together they are a function of one number that
is read as what it is.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch

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
from kreludomain.network.graph import Node
from kreludomain.network.lowering import Decomposition, chain
from kreludomain.network.lowering.piecewise import Piecewise
from kreludomain.network.onnx.operators.context import Converted, NodeContext, compact, weight
from kreludomain.network.operators import Activation, PairMaximum, Scale, Shape, Sum

#: How far constants of a file, rounded to float32, may be from those of the functions they stand for.
_TOLERANCE = 1e-6


def _number(tensor: torch.Tensor | None, default: float) -> float | None:
    """The only number in a tensor; ``None`` where there are several."""
    if tensor is None:
        return default
    return float(tensor.flatten()[0]) if bool((tensor == tensor.flatten()[0]).all()) else None


def _line(node: Node) -> tuple[float, float] | None:
    """Multiplier and shift of a node that scales all entries alike."""
    if not isinstance(node.operator, Scale):
        return None
    multiplier, shift = _number(node.operator.multiplier, 1.0), _number(node.operator.shift, 0.0)
    return None if multiplier is None or shift is None else (multiplier, shift)


def piecewise(context: NodeContext, name: str, base: str | None) -> tuple[Piecewise, str]:
    """The value of a node as a piecewise linear function of each entry of an earlier one, ``base``, or of the first one
    on the way that is no such function itself; and that one's name."""
    known: dict[str, tuple[Piecewise, str]] = {}

    def read(name: str) -> tuple[Piecewise, str]:
        if name not in known:
            known[name] = apply(context.source.nodes_by_name[name])
        return known[name]

    def apply(node: Node) -> tuple[Piecewise, str]:
        line, operator = _line(node), node.operator
        if node.name != base and (line is not None or node.is_relu):
            inner, found = read(node.inputs[0])
            return (inner.relu() if line is None else inner.scaled(*line)), found
        if node.name != base and isinstance(operator, Sum | PairMaximum):
            taken = [read(source) for source in node.inputs]
            functions = [function for function, _ in taken]
            if len({found for _, found in taken}) == 1 and isinstance(operator, PairMaximum):
                return functions[0].maximum(functions[1]), taken[0][1]
            if len({found for _, found in taken}) == 1 and isinstance(operator, Sum):
                signed = (f.scaled(float(sign), 0.0) for f, sign in zip(functions, operator.signs, strict=True))
                return functools.reduce(Piecewise.__add__, signed), taken[0][1]
        return Piecewise.line(1.0, 0.0), node.name

    return read(name)


def chosen(context: NodeContext, condition: int, this: int, that: int | None) -> Converted:
    """``this`` where the condition holds, ``that`` elsewhere (``None``: 0), if that is continuous."""
    operands = [i for i in (condition, this, that) if i is not None]
    if any(context.is_condition(i) for i in operands[1:]):
        raise InputError("chooses from conditions, and jumps where they change")
    shape = np.broadcast_shapes(*(context.shape(i) for i in operands))
    functions, bases = [], []
    for i in operands:
        constant = context.constant(i)
        if constant is None:
            function, base = piecewise(context, context.source.computed_by[context.inputs[i]], None)
            bases.append(base)
        else:
            number = _number(weight(constant), 0.0)
            if number is None:
                raise InputError("a condition on the input chooses from several constants; one number is supported")
            function = Piecewise.line(0.0, number)
        functions.append(function)
    smooth = _softplus_beyond(context, this, that, functions[0], bases[0]) if that is not None else None
    if smooth is not None:
        return smooth
    result = functions[0].where_positive(functions[1], functions[2] if that is not None else Piecewise.line(0.0, 0.0))
    size = math.prod(context.source.nodes_by_name[bases[0]].shape)
    if len(set(bases)) > 1 or size != math.prod(shape):
        raise InputError("its condition depends on another value than those it chooses from, and the value jumps")
    if result.jump is not None:
        raise InputError(f"the value jumps where its condition changes, at {result.jump:g}; networks are continuous")
    return _of(context, bases[0], result.relus(compact(shape)), shape)


def _softplus_beyond(context: NodeContext, this: int, that: int, condition: Piecewise, base: str) -> Converted | None:
    """``x`` where ``beta x`` is above 20 or more, ``softplus(beta x) / beta`` elsewhere, as torch has it.

    The difference is far below the rounding of float32, so that it is softplus everywhere.
    """
    names = [context.source.computed_by.get(context.inputs[i], "") for i in (this, that)]
    core = _core(context.source.nodes_by_name, names[1], base) if all(names) else None
    line, found = piecewise(context, names[0], base) if core is not None else (condition, "")
    if core is None or found != base or len(condition.knots) or condition.slopes[0] <= 0:
        return None
    outer, shift, functions, inner = core
    threshold = -inner * condition.intercepts[0] / condition.slopes[0]
    is_line = len(line.knots) == 0 and _close(line.slopes[0], outer * inner) and line.intercepts[0] == 0
    if functions != [Softplus()] or shift or not is_line or threshold < 20 - 20 * _TOLERANCE:
        return None
    return _scaled(context, base, Softplus(), inner, outer)


def _of(context: NodeContext, base: str, made: Decomposition, shape: Shape) -> Converted:
    """A function of the value of a node by its name."""
    context.inputs[:] = [context.source.value_of(base, shape)]
    return Converted(made, shape)


def _core(nodes: dict[str, Node], name: str, base: str) -> tuple[float, float, list[ActivationFunction], float] | None:
    """``(k, c, [f, g, ...], m)`` where a node is ``k f(g(...(m x))) + c`` of the node ``base``."""
    outer, inner, functions = (1.0, 0.0), (1.0, 0.0), list[ActivationFunction]()
    while name != base:
        node, line = nodes[name], _line(nodes[name])
        if line is not None:
            (multiplier, shift), (k, c) = line, (inner if functions else outer)
            merged = (k * multiplier, k * shift + c)
            outer, inner = (outer, merged) if functions else (merged, inner)
        elif isinstance(node.operator, Activation) and inner == (1.0, 0.0):
            functions.append(node.operator.function)
        else:
            return None
        name = node.inputs[0]
    return (*outer, functions, inner[0]) if functions and inner[1] == 0 else None


#: ``x f(g(...(x)))`` as ``k F(x)``, by ``c / k`` of ``k f(g(...)) + c``, with ``k F`` for ``k = 1``.
_GATES: list[tuple[list[ActivationFunction], float, float, ActivationFunction, float]] = [
    ([Sigmoid()], 0.0, 1.0, Silu(), 1.0),
    ([Tanh(), Softplus()], 0.0, 1.0, Mish(), 1.0),
    ([Erf()], 1.0, math.sqrt(0.5), Gelu(), 2.0),
    ([Tanh()], 1.0, 0.5, Silu(), 2.0),
]


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


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
                return _scaled(context, base, function, inner, factor * outer)
            line = _line(nodes[base])
            factor = None if line is None or line[1] else factor * line[0]
            base = nodes[base].inputs[0] if factor is not None else base
    return None


def _activation_of_gate(context: NodeContext, name: str, base: str) -> tuple[ActivationFunction, float, float] | None:
    """``(F, m, k)`` with ``x g(x) = k F(m x)``."""
    core = _core(context.source.nodes_by_name, name, base)
    if core is not None:
        k, c, functions, inner = core
        for wanted, offset, unit, function, factor in _GATES:
            if functions == wanted and _close(c, offset * k) and k and inner:
                m = _one_if_close(inner / unit)
                return function, m, k * factor / m
    found, at = piecewise(context, name, base)
    gate = found.simplified()
    if at == base and len(gate.knots) == 2 and gate.jump is None and gate.knots[1] > 0:
        m, top = _one_if_close(3 / gate.knots[1]), float(gate.intercepts[2])
        if gate.same([-3 / m, 3 / m], [0.0, top * m / 6, 0.0], _TOLERANCE) and _close(gate.intercepts[0], 0.0):
            return HardSwish(), m, _one_if_close(top) / m
    return None


def _one_if_close(number: float) -> float:
    return 1.0 if _close(number, 1.0) else float(number)


def quotient(context: NodeContext) -> Converted | None:
    """The first input by the second, if it is softsign, ``x / (1 + |x|)``; ``None`` if it is not."""
    base, divisor = (context.source.computed_by[name] for name in context.inputs[:2])
    function, found = piecewise(context, divisor, base)
    below = function.simplified()
    if found != base or len(below.knots) != 1 or not below.intercepts[1]:
        return None
    k, m = below.intercepts[1], below.slopes[1] / below.intercepts[1]
    if m > 0 and below.same([0.0], [-k * m, k * m], _TOLERANCE) and below.jump is None:
        return _scaled(context, base, Softsign(), float(m), float(1 / (k * m)))
    return None


def logarithm(context: NodeContext) -> Converted:
    """``log(sigmoid(x))``, which is ``-softplus(-x)``."""
    node = context.source.nodes_by_name[context.source.computed_by[context.inputs[0]]]
    if not isinstance(node.operator, Activation) or node.operator.function != Sigmoid():
        raise InputError("operator not supported: a logarithm is neither affine nor made of ReLUs, unless of a Sigmoid")
    return _scaled(context, node.inputs[0], Softplus(), -1.0, -1.0)


def _scaled(context: NodeContext, base: str, function: ActivationFunction, inner: float, outer: float) -> Converted:
    """``outer * function(inner * x)`` of the value of a node by its name."""
    shape = context.shape(context.dependent[-1])
    factors = (torch.tensor(factor, dtype=torch.float64) for factor in (inner, outer))
    first, last = (Scale(factor, None, compact(shape)) for factor in factors)
    steps = [Activation(function, compact(shape)), *([] if outer == 1 else [last])]
    return _of(context, base, chain(*([] if inner == 1 else [first]), *steps), shape)
