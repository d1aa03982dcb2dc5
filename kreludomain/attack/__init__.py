"""Attacks look for counterexamples: where they start, projected gradient descent, and what confirms a point.

An attack is a subclass of :class:`~kreludomain.domain.Attack` with one method, ``search``; certification uses
:class:`PGDAttack` unless it is given another.
"""

from kreludomain.attack.confirm import confirmed, counterexample_text, refuted
from kreludomain.attack.search import PGDAttack
from kreludomain.domain.decision import Attack

__all__ = ["Attack", "PGDAttack", "confirmed", "counterexample_text", "refuted"]
