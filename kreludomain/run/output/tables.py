"""Numbers of rows and their statistics, and tables on the screen and as CSV."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table


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


Cell = str | int | float | None


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def records_csv(records: Iterable[Mapping[str, Cell]]) -> str:
    """A line a record; the columns are the keys of all, in the order in which they first occur."""
    found = list(records)
    columns = list(dict.fromkeys(key for record in found for key in record))
    return csv_text(columns, ([record.get(column) for column in columns] for record in found))


def picked(row: object, names: Iterable[str]) -> dict[str, Cell]:
    """The fields of a row with these names."""
    return {name: getattr(row, name) for name in names}


def plain_table(first: str, *columns: str, title: str | None = None) -> Table:
    """A table whose first column is text and whose others are numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title=title)
    table.title_justify = table.caption_justify = "left"
    table.add_column(first, overflow="fold")
    for column in columns:  # where it is narrow, headers wrap between words and the first column folds
        table.add_column(column, justify="right", overflow="fold", min_width=max(map(len, column.split())))
    return table


def as_text(table: Table, width: int = 120) -> str:
    """A table as lines of text."""
    text = io.StringIO()
    Console(file=text, width=width, markup=False, emoji=False, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())


def shown(value: float | None) -> str:
    """A number with four significant digits; a dash where there is none."""
    return "-" if value is None else f"{value:.4g}"
