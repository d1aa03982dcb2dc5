"""Text files with a row a line, whose columns commas, semicolons, tabs or spaces separate."""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from kreludomain.data.keys import CsvKeys
from kreludomain.data.rows import Rows, no_such_rows
from kreludomain.data.table import Head, Roles, Table, has_comma, is_number, number, roles_of
from kreludomain.errors import InputError
from kreludomain.packed import read_packed

LOG = logging.getLogger(__name__)

#: What separates columns, the first that a line has: a comma may be a decimal one where there are others.
DELIMITERS = ("\t", ";", ",", "|")

#: How files begin that are not text, and what they are.
_BINARY = {
    b"\x93NUMPY": "a .npy file: {npy: FILE}",
    b"PK\x03\x04": "an archive: {npz: FILE} for arrays of NumPy's; a spreadsheet has to be saved as CSV",
}


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a file with commas that are not blank, with their line numbers. Errors name the file and the line."""
    yield from CsvText(str(path), read_text(path), ",").rows()


def read_text(path: Path) -> str:
    """The text of a file, unpacked if it is packed. Raises :class:`InputError` that names the file."""
    content = read_packed(path)
    for start, kind in _BINARY.items():
        if content.startswith(start):
            raise InputError(f"{path}: not a text file but {kind}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: not a text file in UTF-8 (line {line}); save it as one") from None


@dataclass(frozen=True)
class CsvText:
    """The text of a file, and what separates its columns."""

    source: str
    text: str
    delimiter: str

    def rows(self, first: int = 0) -> Iterator[tuple[int, list[str]]]:
        """The rows that are not blank, from ``first`` on, with their line numbers; blank lines are no rows.

        Raises :class:`InputError` that names the line.
        """
        lines, skipped, before = io.StringIO(self.text, newline=""), 0, 0
        if '"' not in self.text:  # each row is a line, and those before the first need not be taken apart
            while skipped < first and (line := lines.readline()):
                before += 1
                skipped += bool(line.strip(self.delimiter + " \t\r\n"))
        reader = csv.reader(lines, delimiter=self.delimiter, skipinitialspace=self.delimiter == " ")
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    if skipped >= first:
                        yield before + reader.line_num, cells
                    skipped += 1
        except csv.Error as error:
            raise InputError(f"{self.source}: line {before + reader.line_num}: {error}") from None


def read_csv(path: Path, keys: CsvKeys, size: int) -> Rows:
    """The rows of a file, for inputs of ``size`` values. Raises :class:`InputError` that names file and line."""
    source, text = str(path), read_text(path)
    first_line = next((line for line in io.StringIO(text) if line.strip()), "")
    file = CsvText(source, text, keys.delimiter or guessed_delimiter(first_line))
    start = list(islice(file.rows(), 2))
    if not start:
        raise InputError(f"{path}: there are no rows")
    line, head = start[0]
    columns = Head(source, tuple(cell.strip() for cell in head) if keys.header else None, len(head))
    roles = roles_of(columns, keys)
    if keys.header and all(map(is_number, head)):
        LOG.warning("%s: the first line is taken for the header (header: true), but all its cells are numbers", path)
    if keys.header is None:
        _require_no_header(columns, [cells for _, cells in start], roles)
    above = 1 if keys.header else 0  # rows above the first sample
    rows = list(islice(file.rows(above + keys.first), keys.count))
    if not rows or len(rows) < (keys.count or 0):
        raise no_such_rows(source, sum(1 for _ in file.rows()) - above, keys.first, keys.count)
    for place, cells in rows:
        if len(cells) != len(head):
            quote = "; is a quote not closed?" if any("\n" in cell for cell in cells) else ""
            raise InputError(f"{path}: line {place}: {len(cells)} cells, line {line} has {len(head)}{quote}")
    values = np.array([cells for _, cells in rows], dtype=object)
    table = Table(columns, roles, values, [f"line {place}" for place, _ in rows], keys.first)
    return table.rows(size, lambda: _column(file, above, roles.label))


def guessed_delimiter(line: str) -> str:
    """What separates the columns of a line: the first of :data:`DELIMITERS` that is in it, or else spaces."""
    bare = re.sub(r'"[^"]*"', "quoted", line)
    there = [delimiter for delimiter in DELIMITERS if delimiter in bare]
    return there[0] if there else " " if re.search(r"\S\s+\S", bare) else ","


def _column(file: CsvText, first: int, position: int | None) -> Iterator[str]:
    """The cells of a column in all rows from ``first`` on."""
    if position is not None:
        yield from (cells[position] for _, cells in file.rows(first) if position < len(cells))


def _require_no_header(columns: Head, start: Sequence[Sequence[str]], roles: Roles) -> None:
    """Raises :class:`InputError` if the first row has names where the second has numbers, or counts its columns."""
    first, second = start if len(start) == 2 and len(start[0]) == len(start[1]) else ([], [])
    for position in sorted(roles.numeric) if first else ():
        name = first[position].strip()
        if is_number(second[position]) and not is_number(name) and not has_comma(name):
            what = f"'{name}' is not a number" if name else f"its cell {position} (from 0) is blank"
            raise InputError(f"{columns.source}: line 1 looks like a header ({what}): header: true")
    counts = [number(first[position]) for position in roles.values] if first else []
    if len(counts) > 2 and counts in (list(range(len(counts))), list(range(1, len(counts) + 1))):
        raise InputError(
            f"{columns.source}: line 1 looks like a header (it counts its columns): header: true; "
            "or header: false, if it is a row of values"
        )
