"""Radii as tables on screen and as CSV."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from kreludomain.run.output.tables import csv_text, plain_table, shown

if TYPE_CHECKING:
    from kreludomain.run.invert import Row

#: Columns of the CSV file: everything but the points.
COLUMNS = (
    "index",
    "question",
    "network",
    "onto",
    "norm",
    "method",
    "epsilon",
    "searched",
    "lower",
    "upper",
    "strict",
    "residual",
    "apart",
    "reason",
    "seconds",
    "bounds_seconds",
    "programs",
    "nodes",
    "binaries",
)


def radii_table(rows: Sequence[Row]) -> Table:
    """A row a radius: its bracket, and what that took."""
    columns = ("norm", "method", "certified", "witness", "gap", "any two points", "nodes", "seconds", "stopped")
    table = plain_table("question", *columns, title="radii (certified: nothing nearer; witness: a pair that shows it)")
    for row in rows:
        table.add_row(
            f"{question_of(row)} at {row.index}",
            row.norm,
            row.method,
            shown(row.lower),
            shown(row.upper),
            "-" if row.upper is None else f"{100 * (row.upper - row.lower) / row.upper:.2g} %",
            shown(row.strict),
            str(row.nodes),
            f"{row.seconds:.1f}",
            row.reason,
        )
    if any(row.strict is not None for row in rows):
        table.caption = f"certified: points at least {rows[0].epsilon:g} apart; any two points: however close"
    return table


def question_of(row: Row) -> str:
    """A row's question in words that fit a table."""
    return row.question if row.onto is None else f"{row.network} → {row.onto}"


def methods_table(rows: Sequence[Row]) -> Table:
    """A row a method: what its bounds make of the same programs."""
    columns = ("closed", "mean binaries", "nodes", "seconds for bounds", "seconds", "certified, mean")
    table = plain_table("bounds by", *columns, title="tighter bounds, smaller programs")
    for method in dict.fromkeys(row.method for row in rows):
        mine = [row for row in rows if row.method == method]
        closed = sum(row.reason == "gap closed" or row.reason.startswith("nothing within") for row in mine)
        table.add_row(
            method,
            f"{closed} of {len(mine)}",
            f"{statistics.mean(row.binaries for row in mine):.0f}",
            str(sum(row.nodes for row in mine)),
            f"{sum(row.bounds_seconds for row in mine):.1f}",
            f"{sum(row.seconds for row in mine):.1f}",
            shown(statistics.mean(row.lower for row in mine)),
        )
    return table


def radii_csv(rows: Sequence[Row]) -> str:
    """A row a radius."""
    return csv_text(COLUMNS, ([getattr(row, name) for name in COLUMNS] for row in rows))
