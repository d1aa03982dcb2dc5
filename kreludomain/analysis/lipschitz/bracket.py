"""A bracket of a Lipschitz constant: a sampled lower bound, and certified upper bounds by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: What rounding may do to the order of two numbers that are equal, relative.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Bracket:
    """``lower <= L <= upper`` of each certified bound in ``uppers``, by name."""

    lower: float
    uppers: Mapping[str, float]

    @property
    def upper(self) -> float:
        """The smallest of the certified bounds."""
        return min(self.uppers.values())

    @property
    def ratio(self) -> float:
        """How many times the upper side is the lower one; infinite where the lower one is zero and the upper is not."""
        if self.upper == 0:
            return 1.0
        return self.upper / self.lower if self.lower > 0 else float("inf")

    @property
    def broken(self) -> tuple[str, ...]:
        """The bounds that are below the sampled one. There are none unless the program is wrong."""
        return tuple(name for name, upper in self.uppers.items() if not self.lower <= upper * (1 + TOLERANCE))

    def with_upper(self, name: str, upper: float) -> Bracket:
        """The bracket with one more certified bound."""
        return Bracket(self.lower, {**self.uppers, name: upper})
