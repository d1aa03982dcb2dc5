"""Attacks look for counterexamples: where they start, projected gradient descent, and what confirms a point.

An attack is a subclass of :class:`~kreludomain.domain.Attack` with one method, ``search``; certification uses
:class:`PGDAttack` unless it is given another.
"""

from kreludomain.attack.confirm import (
    can_be_confirmed,
    confirmation,
    confirmed,
    counterexample_text,
    nothing_to_find,
    refuted,
)
from kreludomain.attack.search import PGDAttack
from kreludomain.domain.decision import Attack

__all__ = [
    "Attack",
    "PGDAttack",
    "can_be_confirmed",
    "confirmation",
    "confirmed",
    "counterexample_text",
    "nothing_to_find",
    "refuted",
]
