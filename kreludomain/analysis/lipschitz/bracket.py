"""A bracket of a Lipschitz constant: a sampled lower bound, and certified upper bounds by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: Relative difference of two numbers that counts as rounding.
ORDER_TOL = 1e-9


@dataclass(frozen=True)
class Bracket:
    """``lower <= L <= uppers[name]`` for the certified upper bounds ``uppers``, by name."""

    lower: float
    uppers: Mapping[str, float]

    @property
    def upper(self) -> float:
        """The smallest of the certified bounds."""
        return min(self.uppers.values())

    @property
    def ratio(self) -> float:
        """``upper / lower``; 1 where both are zero, infinite where only ``lower`` is."""
        if self.upper == 0:
            return 1.0
        return self.upper / self.lower if self.lower > 0 else float("inf")

    @property
    def violations(self) -> tuple[str, ...]:
        """Names of upper bounds that lie below the lower bound. A correct program has none."""
        return tuple(name for name, upper in self.uppers.items() if not self.lower <= upper * (1 + ORDER_TOL))

    def with_upper(self, name: str, upper: float) -> Bracket:
        """The bracket with one more certified bound."""
        return Bracket(self.lower, {**self.uppers, name: upper})
