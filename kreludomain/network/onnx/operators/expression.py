"""What values are as functions, entry by entry, of values before them.

A file may have ``Where(x > 0, x, 0)`` for ``Relu``, or ``x * Sigmoid(x)`` for an activation that its opset does not
have. Taken one by one, the last of these operators are not affine; all together they are a function of one number that
is read as what it is.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch

from kreludomain.activations import ActivationFunction
from kreludomain.network.graph import Node
from kreludomain.network.lowering import Decomposition, chain
from kreludomain.network.lowering.piecewise import Piecewise
from kreludomain.network.onnx.operators.context import Converted, NodeContext, compact, weight
from kreludomain.network.operators import Activation, PairMaximum, Scale, Shape, Sum

#: How far constants of a file, rounded to float32, may be from those of the functions they stand for.
TOLERANCE = 1e-6


def only_number(tensor: torch.Tensor | None, default: float) -> float | None:
    """The only number in a tensor; ``None`` where there are several."""
    if tensor is None:
        return default
    return float(tensor.flatten()[0]) if bool((tensor == tensor.flatten()[0]).all()) else None


def line_of(node: Node) -> tuple[float, float] | None:
    """Multiplier and shift of a node that scales all entries alike."""
    if not isinstance(node.operator, Scale):
        return None
    multiplier, shift = only_number(node.operator.multiplier, 1.0), only_number(node.operator.shift, 0.0)
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
        line, operator = line_of(node), node.operator
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


#: Factors ``(size,)`` of the values of nodes in an affine expression, entry by entry; that of ``None`` is the constant.
Affine = dict[str | None, torch.Tensor]


def plus(a: Affine, b: Affine, factor: float | torch.Tensor) -> Affine:
    """``a + factor * b``."""
    zero = torch.zeros((), dtype=torch.float64)
    return {key: a.get(key, zero) + factor * b.get(key, zero) for key in {**a, **b}}


def affine(context: NodeContext, position: int, shape: Shape) -> Affine:
    """An input as an affine expression of nodes that are no such expressions themselves."""
    constant = context.constant(position)
    if constant is not None:
        return {None: weight(np.broadcast_to(constant, shape)).flatten()}
    known: dict[str, Affine] = {}

    def read(name: str) -> Affine:
        if name not in known:
            node = context.source.nodes_by_name[name]
            operator = node.operator
            if isinstance(operator, Scale):
                spread = operator.multiplier.expand(node.shape).flatten()
                known[name] = {key: spread * factor for key, factor in read(node.inputs[0]).items()}
                if operator.offset is not None:
                    known[name] = plus(known[name], {None: operator.offset.flatten()}, 1.0)
            elif isinstance(operator, Sum):
                parts = zip(operator.signs, map(read, node.inputs), strict=True)
                known[name] = functools.reduce(lambda a, b: plus(a, b[1], float(b[0])), parts, Affine())
            else:
                known[name] = {name: torch.ones(math.prod(node.shape), dtype=torch.float64)}
        return known[name]

    return read(context.source.computed_by[context.inputs[position]])


def composition(
    nodes: dict[str, Node], name: str, base: str
) -> tuple[float, float, list[ActivationFunction], float] | None:
    """A node as a composition of activations of the node ``base``; ``None`` where it is none."""
    outer, inner, functions = (1.0, 0.0), (1.0, 0.0), list[ActivationFunction]()
    while name != base:
        node, line = nodes[name], line_of(nodes[name])
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


def close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def function_of(context: NodeContext, base: str, made: Decomposition, shape: Shape) -> Converted:
    """A function of the value of a node by its name."""
    context.inputs[:] = [context.source.value_of(base, shape)]
    return Converted(made, shape)


def scaled_activation(
    context: NodeContext, base: str, function: ActivationFunction, inner: float, outer: float
) -> Converted:
    """``outer * function(inner * x)`` of the value of a node by its name."""
    shape = context.shape(context.dependent[-1])
    factors = (torch.tensor(factor, dtype=torch.float64) for factor in (inner, outer))
    first, last = (Scale(factor, None, compact(shape)) for factor in factors)
    steps = [Activation(function, compact(shape)), *([] if outer == 1 else [last])]
    return function_of(context, base, chain(*([] if inner == 1 else [first]), *steps), shape)
