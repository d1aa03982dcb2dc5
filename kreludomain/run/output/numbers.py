"""Numbers of rows: those that JSON has, and statistics of those that are there."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable


def finite(value: float) -> float | None:
    """A number as JSON has it: ``None`` for those that it has not."""
    return value if math.isfinite(value) else None


def median(values: Iterable[float | None]) -> float | None:
    """The median of the numbers that are there; ``None`` if there are none."""
    found = [value for value in values if value is not None]
    return statistics.median(found) if found else None


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the numbers that are there; ``None`` if there are none."""
    found = [value for value in values if value is not None]
    return statistics.fmean(found) if found else None
