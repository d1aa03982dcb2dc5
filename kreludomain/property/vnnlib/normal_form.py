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
    """Bounds of an input, and the inequalities they are from (``None``: there is none)."""

    lower: float = -math.inf
    upper: float = math.inf
    below: Atom | None = None
    above: Atom | None = None

    def __and__(self, other: InputBounds) -> InputBounds:
        lower, below = (self.lower, self.below) if self.lower >= other.lower else (other.lower, other.below)
        upper, above = (self.upper, self.above) if self.upper <= other.upper else (other.upper, other.above)
        return InputBounds(lower, upper, below, above)

    def conflict(self, index: int) -> str:
        """Which two lines contradict each other about input ``index``; empty if none do.

        In exact numbers: the bounds of a strict inequality are moved by a rounding, so that none may be left between
        two that do not contradict each other. Raises :class:`MalformedError` there.
        """
        if self.lower <= self.upper or self.below is None or self.above is None:
            return ""
        least, most = _limit(self.below), _limit(self.above)
        where = f"X_{index} (line {self.below.line}) is above its upper bound (line {self.above.line})"
        if least > most or (least == most and (self.below.strict or self.above.strict)):
            return f"the lower bound of {where}"
        raise MalformedError(self.above.line, f"no number of float64 is between the bounds of X_{index}")


@dataclass(frozen=True, slots=True)
class Conjunct:
    """A box of inputs, by their indices, and inequalities that are no bounds of single inputs."""

    box: Mapping[int, InputBounds]
    atoms: tuple[Atom, ...]


@dataclass(frozen=True, slots=True)
class Disjunction:
    """Any of the conjunctions; if there are none, ``conflict`` says which lines contradict each other."""

    parts: list[Conjunct]
    conflict: str = ""


def normal_form(formula: Formula) -> Disjunction:
    """The formula as a disjunction of conjunctions. Raises :class:`MalformedError` if there are too many."""
    return _normal(formula)


def number(value: Fraction, line: int) -> float:
    """The nearest float64. Raises :class:`MalformedError` if there is none."""
    try:
        return float(value)
    except OverflowError:
        raise MalformedError(line, "a number beyond float64") from None


def _normal(formula: Formula) -> Disjunction:
    if isinstance(formula, Atom):
        return _atom(formula)
    children = [_normal(part) for part in formula.parts]
    if isinstance(formula, Or):
        parts = [conjunct for child in children for conjunct in child.parts]
        _check(len(parts))
        return Disjunction(parts, next((child.conflict for child in children if child.conflict), ""))
    return _product(children)


def _product(children: list[Disjunction]) -> Disjunction:
    """The conjunction of disjunctions: those of one part first, then the shortest first."""
    for child in children:
        if not child.parts:
            return child
    single = _meet(child.parts[0] for child in children if len(child.parts) == 1)
    if isinstance(single, str):
        return Disjunction([], single)
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
            return Disjunction([], conflict)
        current = following
    return Disjunction(current)


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
            conflict = interval.conflict(index)
            if conflict:
                return conflict
    return Conjunct(box, tuple(atoms))


def _atom(atom: Atom) -> Disjunction:
    terms = atom.linear.terms
    if not terms:
        constant = atom.linear.constant
        true = constant < 0 if atom.strict else constant <= 0
        return Disjunction([Conjunct({}, ())]) if true else Disjunction([], f"line {atom.line} is never true")
    variable, coefficient = next(iter(terms.items()))
    if len(terms) > 1 or variable.kind != "X":
        return Disjunction([Conjunct({}, (atom,))])
    if coefficient > 0:
        interval = InputBounds(upper=_above(_limit(atom), atom), above=atom)
    else:
        interval = InputBounds(lower=-_above(-_limit(atom), atom), below=atom)
    return Disjunction([Conjunct({variable.entry: interval}, ())])


def _limit(atom: Atom) -> Fraction:
    """The number that an inequality of one variable holds it against."""
    (coefficient,) = atom.linear.terms.values()
    return -atom.linear.constant / coefficient


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
