"""Counterexamples: where searches start, projected gradient descent, and what confirms a point."""

from kreludomain.attack.confirm import confirmed, counterexample_text, refuted
from kreludomain.attack.search import find_counterexample

__all__ = ["confirmed", "counterexample_text", "find_counterexample", "refuted"]
