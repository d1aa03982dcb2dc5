"""The rows of reachable sets, and their tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from rich.table import Table

from kreludomain.analysis.reachable import (
    nesting_violations,
)
from kreludomain.run.engine.study import Row
from kreludomain.run.output.tables import picked, plain_table, records_csv, shown


@dataclass(frozen=True)
class SetRow(Row):
    """A set in the plane: the polygon by which ``method`` (its label) bounds the reachable set, or that set itself.

    ``vertices``: of its convex hull, counterclockwise; none where it could not be computed. ``margins``: for each
    unsafe half-plane ``x X + y Y <= at``, the smallest ``x X + y Y - at`` over the set, positive where the two are
    disjoint. Of a method: whether it relaxes neurons jointly (``joint``), how many ``directions`` it bounded, and the
    largest distance of a vertex from its set, if its bounds are those of a convex set (``gap``). Of the reachable set:
    the number of convex polygons whose union it is, 0 where it is only sampled (``pieces``), and of projections of
    inputs (``points``); both are in ``reachable_set.npz``.
    """

    identity = ("method",)

    method: str | None
    joint: bool = False
    vertices: tuple[tuple[float, float], ...] = ()
    area: float | None = None
    margins: tuple[float, ...] = ()
    directions: int = 0
    gap: float = 0.0
    pieces: int = 0
    points: int = 0
    seconds: float = 0.0
    reason: str = ""
    notes: tuple[str, ...] = ()

    @property
    def outcome(self) -> str:
        return "computed" if self.vertices else "failed"

    @property
    def name(self) -> str:
        """The set's name in tables and pictures."""
        return "reachable set" if self.method is None else self.method

    @property
    def polygon(self) -> np.ndarray:
        """The vertices as an array, ``(V, 2)``."""
        return np.array(self.vertices)

    def clear_of(self, position: int) -> str:
        """Whether the set is disjoint from an unsafe half-plane; samples can refute that and cannot prove it."""
        if not self.margins:
            return "-"
        sampled = self.method is None and not self.pieces
        return "no" if self.margins[position] <= 0 else "not refuted" if sampled else "yes"


def sets_table(rows: Sequence[SetRow], reachable: SetRow, unsafe: Sequence[str]) -> Table:
    """A row a set; ``unsafe`` are the labels of the half-planes."""
    clear = [f"clear of {label}" for label in unsafe]
    table = plain_table("set", "area", "of reachable", "x from", "x to", "y from", "y to", *clear, "directions", "s")
    for row in rows:
        ends = np.stack([row.polygon.min(0), row.polygon.max(0)]).T.flatten() if row.vertices else [None] * 4
        numbers = (row.area, _ratio(row, reachable), *ends)
        verdicts = map(row.clear_of, range(len(unsafe)))
        table.add_row(row.name, *map(shown, numbers), *verdicts, str(row.directions or "-"), shown(row.seconds))
    return table


def _ratio(row: SetRow, reachable: SetRow) -> float | None:
    return row.area / reachable.area if row.area is not None and reachable.area else None


def nesting(rows: Sequence[SetRow]) -> str:
    """Which sets do not lie inside the one before them by more than their gaps; nothing of fewer than two sets."""
    sets = [row for row in rows if row.vertices]
    if len(sets) < 2:
        return ""
    broken = [
        f"{inner.name} does not lie inside {outer.name} (by {shown(by)})"
        for (outer, inner), by in zip(pairwise(sets), nesting_violations([row.polygon for row in sets]), strict=True)
        if by > inner.gap + 1e-6 * float(np.ptp(outer.polygon, axis=0).max())
    ]
    return "; ".join(broken) + "." if broken else "Each set lies inside the one above it."


def sets_csv(rows: Sequence[SetRow], reachable: SetRow) -> str:
    """A row a set."""
    names = ("area", "directions", "gap", "seconds")
    more = ({"area_of_reachable_hull": reachable.area, "vertices": len(row.vertices)} for row in rows)
    return records_csv({"set": row.name, **picked(row, names), **each} for row, each in zip(rows, more, strict=True))
