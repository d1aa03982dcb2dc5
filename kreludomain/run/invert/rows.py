"""The rows of ``invert``, and their tables."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.table import Table

from kreludomain.analysis.invert import InvertibilityRadius
from kreludomain.run.engine.study import Row
from kreludomain.run.output.tables import picked, plain_table, records_csv, shown

Point = tuple[float, ...]


@dataclass(frozen=True)
class RadiusRow(Row):
    """A bracket of a radius.

    ``index``: the centre's position in the points or the data. ``network``, and ``onto`` for a transformation: the
    names of the networks. ``lower`` is certified; ``upper`` belongs to ``points``, two inputs whose images differ by
    ``residual`` and which are ``apart`` from each other (for a transformation: their second images). ``strict`` and
    ``reason`` as in :class:`~kreludomain.analysis.invert.InvertibilityRadius`, the counts as in its ``Effort``.
    """

    identity = ("index", "question", "network", "onto", "norm", "method")

    index: int
    center: Point
    question: str
    network: str
    onto: str | None
    norm: str
    method: str
    epsilon: float
    searched: float
    lower: float = 0.0
    upper: float | None = None
    strict: float | None = None
    reason: str = ""
    seconds: float = 0.0
    bounds_seconds: float = 0.0
    programs: int = 0
    nodes: int = 0
    binaries: int = 0
    points: tuple[Point, Point] | None = None
    residual: float | None = None
    apart: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def outcome(self) -> str:
        return "closed" if self.closed else "open"

    @property
    def closed(self) -> bool:
        """Whether the search ended before its time: the bracket is closed, or there is nothing in the whole ball."""
        return self.reason == "gap closed" or self.reason.startswith("nothing within")

    @property
    def asked(self) -> str:
        """The question and the centre in words that fit a table."""
        name = self.question if self.onto is None else f"{self.network} → {self.onto}"
        return f"{name} at {self.index}"

    def with_radius(self, found: InvertibilityRadius) -> RadiusRow:
        """The row with what was found."""
        row = replace(
            self,
            **{name: getattr(found, name) for name in ("lower", "upper", "strict", "reason", "notes")},
            **dataclasses.asdict(found.effort),
        )
        if found.witness is None:
            return row
        first, second = (tuple(point.flatten().tolist()) for point in found.witness.points)
        return replace(row, points=(first, second), residual=found.witness.residual, apart=found.witness.apart)


def radii_table(rows: Sequence[RadiusRow]) -> Table:
    """A row a radius: its bracket, and the work that it took."""
    columns = ("norm", "method", "certified", "witness", "gap", "any two points", "nodes", "seconds", "stopped")
    table = plain_table("question", *columns, title="radii (certified: nothing nearer; witness: a pair that shows it)")
    for row in rows:
        gap = "-" if row.upper is None else f"{100 * (row.upper - row.lower) / row.upper:.2g} %"
        ends = (shown(row.lower), shown(row.upper), gap, shown(row.strict))
        table.add_row(row.asked, row.norm, row.method, *ends, str(row.nodes), f"{row.seconds:.1f}", row.reason)
    if any(row.strict is not None for row in rows):
        table.caption = f"certified: points at least {rows[0].epsilon:g} apart; any two points: however close"
    return table


def methods_table(rows: Sequence[RadiusRow]) -> Table:
    """A row a method: how its bounds change the size of the same programs, and the work that they take."""
    columns = ("closed", "mean binaries", "nodes", "seconds for bounds", "seconds", "certified, mean")
    table = plain_table("bounds by", *columns, title="tighter bounds, smaller programs")
    for method in dict.fromkeys(row.method for row in rows):
        mine = [row for row in rows if row.method == method]
        table.add_row(
            method,
            f"{sum(row.closed for row in mine)} of {len(mine)}",
            f"{statistics.mean(row.binaries for row in mine):.0f}",
            str(sum(row.nodes for row in mine)),
            f"{sum(row.bounds_seconds for row in mine):.1f}",
            f"{sum(row.seconds for row in mine):.1f}",
            shown(statistics.mean(row.lower for row in mine)),
        )
    return table


def radii_csv(rows: Sequence[RadiusRow]) -> str:
    """A row a radius: everything but the points and the notes."""
    names = [field.name for field in dataclasses.fields(RadiusRow) if field.name not in ("center", "points", "notes")]
    return records_csv(picked(row, names) for row in rows)
