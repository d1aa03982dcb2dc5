"""Deadlines: moments after which work stops and returns what it has."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Deadline:
    """A moment of the monotonic clock; ``Deadline()`` never comes."""

    at: float = float("inf")

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """The moment ``seconds`` from now (``None``: never)."""
        return cls() if seconds is None else cls(time.monotonic() + seconds)

    @property
    def remaining(self) -> float:
        """Seconds left, never negative; infinite if there is no limit."""
        return max(0.0, self.at - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether the moment has come."""
        return time.monotonic() >= self.at
