"""The rows of ``benchmark``, and their tables on screen and as CSV."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.table import Table

from kreludomain.run.engine.study import Row
from kreludomain.run.output.tables import csv_text, plain_table, shown


@dataclass(frozen=True)
class InstanceRow(Row):
    """The answer to an instance.

    ``expected`` and ``result`` are words of a results file (``expected`` is empty if nothing is known), ``seconds`` are
    those of its process, ``stages`` those of the method's stages, ``counterexample`` is a file in the folder.
    """

    identity = ("index",)

    index: int
    family: str
    network: str
    specification: str
    expected: str
    result: str = "unknown"
    seconds: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    counterexample: str | None = None

    @property
    def outcome(self) -> str:
        return self.result

    @property
    def name(self) -> str:
        return f"{self.network} {self.specification}"

    @property
    def solved(self) -> bool:
        return self.result in ("sat", "unsat")

    @property
    def wrong(self) -> bool:
        """Whether it contradicts what is expected."""
        return self.solved and self.expected not in ("", self.result)


#: The results that the table counts; the others where they occur.
ALWAYS, PERHAPS = ("unsat", "sat", "timeout"), ("unknown", "error")


def families_table(rows: Sequence[InstanceRow]) -> Table:
    """A row a family, and one for all of them if there are several; seconds are sums."""
    counted = (*ALWAYS, *(word for word in PERHAPS if any(o.result == word for o in rows)))
    table = plain_table("family", "instances", "solved", *counted, "wrong", "seconds", "seconds of solved")
    families = list(dict.fromkeys(o.family for o in rows))
    for family in families:
        table.add_row(family, *_counts([o for o in rows if o.family == family], counted))
    if len(families) > 1:
        table.add_row("all", *_counts(rows, counted))
    return table


def _counts(rows: Sequence[InstanceRow], counted: Iterable[str]) -> list[str]:
    words = [sum(o.result == word for o in rows) for word in counted]
    numbers = (len(rows), sum(o.solved for o in rows), *words, sum(o.wrong for o in rows))
    seconds = (sum(o.seconds for o in rows), sum(o.seconds for o in rows if o.solved))
    return [*map(str, numbers), *map(shown, seconds)]


def results_csv(rows: Iterable[InstanceRow]) -> str:
    """A row an instance, in the order of the list."""
    columns = ("family", "network", "specification", "expected", "result", "seconds", "stages", "reason")
    lines = (
        [o.family, o.network, o.specification, o.expected, o.result, f"{o.seconds:.3f}", _stages(o), o.reason]
        for o in rows
    )
    return csv_text(columns, lines)


def _stages(row: InstanceRow) -> str:
    return " ".join(f"{name}={seconds:.3f}" for name, seconds in row.stages.items())
