"""Functions that are written with comparisons and are continuous nevertheless: ``where(x > 0, x, 0.1 * x)``.

A comparison alone jumps. What chooses by it does not if both alternatives are the same where the choice changes: for
``p`` where ``u > v`` and ``q`` elsewhere, that is so if ``p - q`` is a multiple ``k (u - v)``. Then it is
``q + k ReLU(u - v)``. Whether it is a multiple is read off the affine arithmetic from which all four are made.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network.torch.memory import Value
from kreludomain.network.torch.operators.base import Graph, Operand, Writer
from kreludomain.network.torch.recorder import Step

#: Factors of values in an affine expression; that of ``None`` is the constant.
_Expression = dict[Value | None, Tensor]
#: The expression of a step from those of its operands; ``None`` where it is none.
_Reader = Callable[[Callable[[Operand], _Expression], Step], _Expression | None]

_GREATER, _LESS = ("gt", "ge"), ("lt", "le")
_NEGATED = ("logical_not", "bitwise_not")
#: How far factors may be from those of a multiple, by rounding.
_TOLERANCE = 1e-9


def is_choice(graph: Graph, operand: object) -> bool:
    """Whether an operand says, for each entry, how a comparison came out; as a truth value or as 0 and 1."""
    step = graph.made_by.get(operand) if isinstance(operand, Value) else None
    if step is None:
        return False
    if step.name in (*_GREATER, *_LESS):
        return True
    return step.name in (*_NEGATED, "_to_copy") and is_choice(graph, step.arguments["self"])


def chosen(graph: Graph, choice: Operand, one: Operand, other: Operand) -> str:
    """``one`` where a comparison holds and ``other`` elsewhere. Raises :class:`InputError` if that jumps."""
    step = graph.made_by[choice] if isinstance(choice, Value) else None
    while step is not None and step.name in (*_NEGATED, "_to_copy"):
        if step.name in _NEGATED:
            one, other = other, one
        step = graph.made_by[step.arguments["self"]]
    if step is None:
        raise InputError("a choice by what is no comparison is not supported")
    first, second = step.arguments["self"], step.arguments["other"]
    if step.name in _LESS:
        first, second = second, first
    expression = _expressions(graph)
    margin = _sum(expression(first), expression(second), -1)
    factor = _multiple(_sum(expression(one), expression(other), -1), margin)
    if factor is None:
        raise InputError("the value jumps where a comparison changes: a network has to be continuous")
    relu = graph.add("Relu", graph.add("Sub", graph.operand(first), graph.operand(second)))
    return graph.add("Add", graph.add("Mul", relu, graph.operand(factor)), graph.operand(other))


def _multiple(expression: _Expression, margin: _Expression) -> Tensor | None:
    """The factor by which one expression is the other, if it is for every input."""
    value = next((v for v, factor in margin.items() if v is not None and bool((factor != 0).all())), None)
    if value is None:
        return None
    zero = torch.zeros((), dtype=torch.float64)
    factor = expression.get(value, zero) / margin[value]
    for key in {*expression, *margin}:
        found, wanted = expression.get(key, zero), factor * margin.get(key, zero)
        if bool(((found - wanted).abs() > _TOLERANCE * wanted.abs()).any()):
            return None
    return factor


def _expressions(graph: Graph) -> Callable[[Operand], _Expression]:
    """Operands as affine expressions, entry by entry, of values that are no such expressions themselves."""
    known: dict[Value, _Expression] = {}

    def expression(operand: Operand) -> _Expression:
        if not isinstance(operand, Value):
            return {None: torch.as_tensor(operand).detach().cpu().double()}
        if operand not in known:
            step = graph.made_by.get(operand)
            read = None if step is None else _AFFINE.get(step.name)
            found = None if step is None or read is None else read(expression, step)
            known[operand] = {operand: torch.ones((), dtype=torch.float64)} if found is None else found
        return known[operand]

    return expression


def _sum(a: _Expression, b: _Expression, factor: float | Tensor) -> _Expression:
    """``a + factor * b``."""
    zero = torch.zeros((), dtype=torch.float64)
    return {key: a.get(key, zero) + factor * b.get(key, zero) for key in {**a, **b}}


def _added(sign: int, first: str, second: str) -> _Reader:
    def read(expression: Callable[[Operand], _Expression], step: Step) -> _Expression:
        a, b = (expression(step.arguments[name]) for name in (first, second))
        return _sum(a, b, sign * step.arguments.get("alpha", 1))

    return read


def _multiplied(inverted: bool) -> _Reader:
    def read(expression: Callable[[Operand], _Expression], step: Step) -> _Expression | None:
        a, b = step.arguments["self"], step.arguments["other"]
        if not inverted and not isinstance(a, Value):
            a, b = b, a
        if isinstance(b, Value) or step.arguments.get("rounding_mode") is not None:
            return None
        factor = torch.as_tensor(b).detach().cpu().double()
        return _sum({}, expression(a), 1 / factor if inverted else factor)

    return read


_AFFINE: dict[str, _Reader] = {
    "add": _added(1, "self", "other"),
    "sub": _added(-1, "self", "other"),
    "rsub": _added(-1, "other", "self"),
    "mul": _multiplied(False),
    "div": _multiplied(True),
    "neg": lambda expression, step: _sum({}, expression(step.arguments["self"]), -1),
}

#: Written where they are used: a comparison alone has no value.
COMPARISONS: dict[str, Writer] = dict.fromkeys((*_GREATER, *_LESS, *_NEGATED), lambda graph, step: [])
