"""Disjunctive normal form: a formula as a list of conjunctions, each a box of inputs and inequalities besides.

Bounds of single inputs are intersected as they are met, and empty conjunctions are dropped at once, so that the many
assertions of a box with one disjunction of boxes or outputs stay as many conjunctions as the disjunction has.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from kreludomain.property.vnnlib.expressions import MalformedError
from kreludomain.property.vnnlib.formula import Atom, Formula, Or

#: How many conjunctions a formula may come to.
MOST = 20_000


class InputBounds(NamedTuple):
    """Bounds of an input, and the lines they are from (0: there is none)."""

    lower: float = -math.inf
    upper: float = math.inf
    lower_line: int = 0
    upper_line: int = 0

    def __and__(self, other: InputBounds) -> InputBounds:
        lower, lower_line = (
            (self.lower, self.lower_line) if self.lower >= other.lower else (other.lower, other.lower_line)
        )
        upper, upper_line = (
            (self.upper, self.upper_line) if self.upper <= other.upper else (other.upper, other.upper_line)
        )
        return InputBounds(lower, upper, lower_line, upper_line)


@dataclass(frozen=True, slots=True)
class Conjunct:
    """A box of inputs, by their indices, and inequalities that are no bounds of single inputs."""

    box: Mapping[int, InputBounds]
    atoms: tuple[Atom, ...]


@dataclass(frozen=True, slots=True)
class _Disjunction:
    """Any of the conjunctions; if there are none, ``conflict`` names the two lines that contradict each other."""

    parts: list[Conjunct]
    conflict: str = ""


def normal_form(formula: Formula) -> list[Conjunct]:
    """The formula as a disjunction of conjunctions.

    Raises :class:`MalformedError` if none of them has a box that is not empty, or if there are too many.
    """
    found = _normal(formula)
    if not found.parts:
        raise MalformedError(0, f"no input and output satisfy the assertions: {found.conflict}")
    return found.parts


def number(value: Fraction, line: int) -> float:
    """The nearest float64. Raises :class:`MalformedError` if there is none."""
    try:
        return float(value)
    except OverflowError:
        raise MalformedError(line, "a number beyond float64") from None


def _normal(formula: Formula) -> _Disjunction:
    if isinstance(formula, Atom):
        return _atom(formula)
    children = [_normal(part) for part in formula.parts]
    if isinstance(formula, Or):
        parts = [conjunct for child in children for conjunct in child.parts]
        _check(len(parts))
        return _Disjunction(parts, next((child.conflict for child in children if child.conflict), ""))
    return _product(children)


def _product(children: list[_Disjunction]) -> _Disjunction:
    """The conjunction of disjunctions: those of one part first, then the shortest first."""
    for child in children:
        if not child.parts:
            return child
    single = _meet(child.parts[0] for child in children if len(child.parts) == 1)
    if isinstance(single, str):
        return _Disjunction([], single)
    current = [single]
    for choices in sorted((child.parts for child in children if len(child.parts) > 1), key=len):
        following, conflict = [], ""
        for left in current:
            for right in choices:
                both = _meet((left, right) if len(left.box) >= len(right.box) else (right, left))
                if isinstance(both, str):
                    conflict = conflict or both
                else:
                    following.append(both)
            _check(len(following))
        if not following:
            return _Disjunction([], conflict)
        current = following
    return _Disjunction(current)


def _check(count: int) -> None:
    if count > MOST:
        raise MalformedError(0, f"the assertions come to more than {MOST} alternatives in disjunctive normal form")


def _meet(conjuncts: Iterable[Conjunct]) -> Conjunct | str:
    """All of the conjunctions as one, or the two lines that contradict each other."""
    box: dict[int, InputBounds] = {}
    atoms: list[Atom] = []
    for conjunct in conjuncts:
        atoms += conjunct.atoms
        if not box:
            box = dict(conjunct.box)
            continue
        for index, interval in conjunct.box.items():
            known = box.get(index)
            box[index] = interval = interval if known is None else known & interval
            if interval.lower > interval.upper:
                lower, upper = (f"line {line}" for line in (interval.lower_line, interval.upper_line))
                return f"the lower bound of X_{index} ({lower}) is above its upper bound ({upper})"
    return Conjunct(box, tuple(atoms))


def _atom(atom: Atom) -> _Disjunction:
    terms = atom.linear.terms
    if not terms:
        constant = atom.linear.constant
        true = constant < 0 if atom.strict else constant <= 0
        return _Disjunction([Conjunct({}, ())]) if true else _Disjunction([], f"line {atom.line} is never true")
    variable, coefficient = next(iter(terms.items()))
    if len(terms) > 1 or variable.kind != "X":
        return _Disjunction([Conjunct({}, (atom,))])
    value = -atom.linear.constant / coefficient
    if coefficient > 0:
        interval = InputBounds(upper=_above(value, atom), upper_line=atom.line)
    else:
        interval = InputBounds(lower=-_above(-value, atom), lower_line=atom.line)
    return _Disjunction([Conjunct({variable.entry: interval}, ())])


def _above(value: Fraction, atom: Atom) -> float:
    """The upper bound that ``x <= value`` gives: the smallest float64 that is not below it.

    Of ``x < value`` it is the largest float64 that satisfies it: the gap between both is far less than the slack of a
    region's :meth:`minimum`, and a counterexample is never at a bound that is not allowed.
    """
    nearest = number(value, atom.line)
    exact = Fraction(nearest)
    if exact < value:
        return math.nextafter(nearest, math.inf)
    return math.nextafter(nearest, -math.inf) if atom.strict and exact == value else nearest
