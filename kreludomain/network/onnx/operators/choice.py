"""Choices by a condition on the input, where they do not jump."""

from __future__ import annotations

import math

import numpy as np
import torch

from kreludomain.activations import Relu, Softplus
from kreludomain.errors import InputError
from kreludomain.network.graph import Node
from kreludomain.network.lowering import chain
from kreludomain.network.lowering.piecewise import CLOSE, Piecewise
from kreludomain.network.onnx.operators.context import Converted, NodeContext, compact, weight
from kreludomain.network.onnx.operators.expression import (
    TOLERANCE,
    Affine,
    affine,
    close,
    composition,
    function_of,
    only_number,
    piecewise,
    plus,
    scaled_activation,
)
from kreludomain.network.operators import Activation, Scale, Shape, Sum


def chosen(context: NodeContext, condition: int, this: int, that: int | None) -> Converted:
    """``this`` where the condition holds, ``that`` elsewhere (``None``: 0), if that is continuous."""
    operands = [i for i in (condition, this, that) if i is not None]
    if any(context.is_condition(i) for i in operands[1:]):
        raise InputError("chooses from conditions, and jumps where they change")
    shape = np.broadcast_shapes(*(context.shape(i) for i in operands))
    if any(context.shape(i) != shape for i in context.dependent):
        raise InputError(f"a condition and values that depend on the input are supported in one shape, {shape}")
    result = _of_one_number(context, condition, this, that, shape) or _bent(context, condition, this, that, shape)
    if result is None:
        raise InputError("the value jumps where its condition changes; networks are continuous")
    return result


def _of_one_number(context: NodeContext, condition: int, this: int, that: int | None, shape: Shape) -> Converted | None:
    """A choice that is a continuous function of each entry of one value, the same of all; else ``None``."""
    nothing = Piecewise.line(0.0, 0.0)
    functions, bases = [], set[str]()
    for i in (condition, this, that):
        constant = np.zeros(()) if i is None else context.constant(i)
        number = None if constant is None else only_number(weight(constant), 0.0)
        if i is not None and constant is None:
            function, base = piecewise(context, context.source.computed_by[context.inputs[i]], None)
            bases.add(base)
        elif number is None:
            return None
        else:
            function = nothing.scaled(0.0, number)
        functions.append(function)
    base = piecewise(context, context.source.computed_by[context.inputs[condition]], None)[1]
    smooth = _softplus_beyond(context, this, that, functions[0], base) if that is not None else None
    if smooth is not None:
        return smooth
    result = functions[0].where_positive(functions[1], functions[2])
    if len(bases) > 1 or math.prod(context.source.nodes_by_name[base].shape) != math.prod(shape):
        return None
    return None if result.jump is not None else function_of(context, base, result.relus(compact(shape)), shape)


def _bent(context: NodeContext, condition: int, this: int, that: int | None, shape: Shape) -> Converted | None:
    """``p`` where ``u > 0``, ``q`` elsewhere: ``q + k ReLU(u)`` if ``p - q`` is ``k u``."""
    nothing: Affine = {None: torch.zeros(math.prod(shape), dtype=torch.float64)}
    margin, one = (affine(context, i, shape) for i in (condition, this))
    other = nothing if that is None else affine(context, that, shape)
    difference = plus(one, other, -1.0)
    value = next((key for key, factor in margin.items() if key is not None and bool((factor != 0).all())), None)
    if value is None:
        return None
    factor = difference.get(value, torch.zeros_like(margin[value])) / margin[value]
    for key, left in plus(difference, margin, -factor).items():
        if bool((left.abs() > CLOSE * (1 + difference.get(key, left).abs())).any()):
            return None
    name, inner = context.inputs[condition], compact(shape)
    context.inputs[:] = [name] if that is None or context.constant(that) is not None else [name, context.inputs[that]]
    bent = chain(Activation(Relu(), inner), Scale(factor.reshape(inner), None, inner))
    if len(context.inputs) == 1:
        return Converted(chain(bent, Scale(torch.ones_like(factor[:1]), other[None].reshape(inner), inner)), shape)
    return Converted(
        lambda name, u, q: (*bent(f"{name}/bent", u), Node(name, Sum((1, 1), inner), (f"{name}/bent", q))), shape
    )


def _softplus_beyond(context: NodeContext, this: int, that: int, condition: Piecewise, base: str) -> Converted | None:
    """``x`` where ``beta x`` is above 20 or more, ``softplus(beta x) / beta`` elsewhere, as torch has it.

    The difference is far below the rounding of float32, so that it is softplus everywhere.
    """
    names = [context.source.computed_by.get(context.inputs[i], "") for i in (this, that)]
    core = composition(context.source.nodes_by_name, names[1], base) if all(names) else None
    line, found = piecewise(context, names[0], base) if core is not None else (condition, "")
    if core is None or found != base or len(condition.knots) or condition.slopes[0] <= 0:
        return None
    outer, shift, functions, inner = core
    threshold = -inner * condition.intercepts[0] / condition.slopes[0]
    is_line = len(line.knots) == 0 and close(line.slopes[0], outer * inner) and line.intercepts[0] == 0
    if functions != [Softplus()] or shift or not is_line or threshold < 20 - 20 * TOLERANCE:
        return None
    return scaled_activation(context, base, Softplus(), inner, outer)
