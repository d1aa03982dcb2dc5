"""Formulas over a network's inputs and outputs: linear inequalities, conjunctions, disjunctions.

A number is read as the nearest float64; from there on arithmetic is exact, in rational numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple

from kreludomain.property.vnnlib.expressions import Expression, Group, MalformedError, Symbol

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_NOT_ZERO = re.compile(r"[+-]?[0.]*[1-9]")
VARIABLE = re.compile(r"([XY])_(0|[1-9]\d{0,8})")


class Variable(NamedTuple):
    """Entry ``entry`` of the flattened input (``X``) or output (``Y``)."""

    kind: Literal["X", "Y"]
    entry: int

    def __str__(self) -> str:
        return f"{self.kind}_{self.entry}"


@dataclass(frozen=True, slots=True)
class LinearExpression:
    """``constant`` plus the sum of coefficient times variable; no coefficient is zero."""

    terms: Mapping[Variable, Fraction]
    constant: Fraction

    def scaled(self, factor: Fraction) -> LinearExpression:
        terms = {v: c * factor for v, c in self.terms.items()} if factor else {}
        return LinearExpression(terms, self.constant * factor)

    def __add__(self, other: LinearExpression) -> LinearExpression:
        terms = dict(self.terms)
        for variable, coefficient in other.terms.items():
            terms[variable] = terms.get(variable, Fraction(0)) + coefficient
        return LinearExpression({v: c for v, c in terms.items() if c}, self.constant + other.constant)

    def __sub__(self, other: LinearExpression) -> LinearExpression:
        return self + other.scaled(Fraction(-1))


@dataclass(frozen=True, slots=True)
class Atom:
    """``linear <= 0``, or ``linear < 0`` if it is strict; ``line`` is where it is written."""

    linear: LinearExpression
    strict: bool
    line: int


@dataclass(frozen=True, slots=True)
class And:
    """All parts are true."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """A part is true."""

    parts: tuple[Formula, ...]


Formula = Atom | And | Or

#: Order of the two sides in ``left - right <= 0``, and whether it is strict.
COMPARISONS = {"<=": (1, False), "<": (1, True), ">=": (-1, False), ">": (-1, True)}


def read(expressions: Iterable[Expression]) -> tuple[Formula, dict[Variable, int]]:
    """The conjunction of all assertions, and the line of each variable that is declared.

    Raises :class:`MalformedError` for commands, functions and variables that are unknown.
    """
    declared: dict[Variable, int] = {}
    assertions: list[Formula] = []
    for expression in expressions:
        command = expression.head if isinstance(expression, Group) else ""
        if command == "declare-const":
            variable = _declaration(expression)
            if variable in declared:
                raise MalformedError(expression.line, f"{variable} is declared twice")
            declared[variable] = expression.line
        elif command == "assert":
            assertions.append(_formula(_operands(expression, 1)[0], declared))
        else:
            raise MalformedError(expression.line, f"(declare-const ...) or (assert ...) is expected, not {expression}")
    return And(tuple(assertions)), declared


def _declaration(expression: Expression) -> Variable:
    name, sort = _operands(expression, 2)
    matched = VARIABLE.fullmatch(name.text) if isinstance(name, Symbol) else None
    if matched is None:
        raise MalformedError(name.line, f"a variable X_0, X_1, ... or Y_0, Y_1, ... is expected, not {name}")
    if not isinstance(sort, Symbol) or sort.text != "Real":
        raise MalformedError(sort.line, f"the sort Real is expected, not {sort}")
    return Variable("X" if matched[1] == "X" else "Y", int(matched[2]))


def _operands(expression: Expression, count: int | None = None) -> tuple[Expression, ...]:
    """The operands after the first word. Raises :class:`MalformedError` unless it is ``count`` operands, or at least
    one."""
    operands = expression.items[1:] if isinstance(expression, Group) else ()
    if (not operands) if count is None else len(operands) != count:
        wanted = "at least one operand" if count is None else f"{count} operand{'s' * (count > 1)}"
        raise MalformedError(expression.line, f"{expression} takes {wanted}, is given {len(operands)}")
    return operands


def _formula(expression: Expression, declared: Mapping[Variable, int]) -> Formula:
    head = expression.head if isinstance(expression, Group) else ""
    if head in COMPARISONS:
        order, strict = COMPARISONS[head]
        left, right = (_linear(operand, declared) for operand in _operands(expression, 2))
        return Atom(left - right if order == 1 else right - left, strict, expression.line)
    if head in ("and", "or"):
        parts = tuple(_formula(operand, declared) for operand in _operands(expression))
        return And(parts) if head == "and" else Or(parts)
    raise MalformedError(expression.line, f"and, or, <=, >=, < or > is expected, not {expression}")


def _linear(expression: Expression, declared: Mapping[Variable, int]) -> LinearExpression:
    if isinstance(expression, Symbol):
        return _leaf(expression, declared)
    if expression.head not in FUNCTIONS:
        raise MalformedError(expression.line, f"a number, a variable, +, - or * is expected, not {expression}")
    operands = [_linear(operand, declared) for operand in _operands(expression)]
    return FUNCTIONS[expression.head](operands, expression.line)


def _leaf(symbol: Symbol, declared: Mapping[Variable, int]) -> LinearExpression:
    if NUMBER.fullmatch(symbol.text):
        value = float(symbol.text)
        if value in (float("inf"), float("-inf")):
            raise MalformedError(symbol.line, f"{symbol} is beyond float64")
        if value == 0 and _NOT_ZERO.match(symbol.text):
            raise MalformedError(symbol.line, f"{symbol} is closer to 0 than float64 can be")
        return LinearExpression({}, Fraction(value))
    matched = VARIABLE.fullmatch(symbol.text)
    variable = Variable("X" if matched[1] == "X" else "Y", int(matched[2])) if matched else None
    if variable is None or variable not in declared:
        raise MalformedError(symbol.line, f"{symbol} is neither a number nor a declared variable")
    return LinearExpression({variable: Fraction(1)}, Fraction(0))


def _sum(operands: list[LinearExpression], line: int) -> LinearExpression:
    return sum(operands[1:], operands[0])


def _difference(operands: list[LinearExpression], line: int) -> LinearExpression:
    if len(operands) == 1:
        return operands[0].scaled(Fraction(-1))
    return operands[0] - _sum(operands[1:], line)


def _product(operands: list[LinearExpression], line: int) -> LinearExpression:
    result = LinearExpression({}, Fraction(1))
    for factor in operands:
        if result.terms and factor.terms:
            raise MalformedError(line, "a product of variables; only linear expressions are supported")
        constant, other = (factor, result) if result.terms else (result, factor)
        result = other.scaled(constant.constant)
    return result


FUNCTIONS: dict[str, Callable[[list[LinearExpression], int], LinearExpression]] = {
    "+": _sum,
    "-": _difference,
    "*": _product,
}
