"""Lists of instances: a CSV file with a row an instance, as the verifier competition has them."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kreludomain.errors import InputError
from kreludomain.verify import Verdict

#: The columns of a list without a header.
COLUMNS = ("onnx", "vnnlib", "timeout")

#: Other names of columns.
ALIASES = {"timeout_s": "timeout", "family": "benchmark"}

#: The answers that a list may expect, in the words of several years. ``None``: nothing is known.
EXPECTED = {
    **dict.fromkeys(("unsat", "holds", "verified"), Verdict.VERIFIED),
    **dict.fromkeys(("sat", "violated", "falsified"), Verdict.FALSIFIED),
    **dict.fromkeys(("", "unknown", "disputed", "timeout", "error"), None),
}


@dataclass(frozen=True)
class Instance:
    """A row: ``index`` counts from 0, ``network`` and ``specification`` are as they are written there.

    ``family`` is its benchmark, its paths are relative to ``folder``, ``expected`` is the answer, if it is known.
    """

    index: int
    family: str
    network: str
    specification: str
    timeout_s: float
    expected: Verdict | None
    folder: Path

    @property
    def paths(self) -> tuple[Path, Path]:
        """Where the network and the specification are."""
        return self.folder / self.network, self.folder / self.specification


def read_instances(path: Path) -> list[Instance]:
    """The instances of a list, in its order.

    Without a header the columns are the network, the specification and the seconds, as in the competition. A header
    names the columns ``onnx``, ``vnnlib`` and ``timeout`` (or ``timeout_s``), and perhaps ``benchmark`` (or ``family``)
    and ``expected`` (``holds`` or ``unsat``, ``violated`` or ``sat``); others are not read. The family is the
    ``benchmark``, or the name of the list's folder. Raises :class:`InputError` with file and line, also for files that
    are not there.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [(line, [cell.strip() for cell in row]) for line, row in enumerate(csv.reader(file), 1) if any(row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: is not a CSV file ({error})") from None
    columns: Sequence[str] = COLUMNS
    if rows and {"onnx", "vnnlib"} <= {cell.lower() for cell in rows[0][1]}:
        columns = [ALIASES.get(cell.lower(), cell.lower()) for cell in rows.pop(0)[1]]
        missing = [name for name in COLUMNS if name not in columns]
        if missing:
            raise InputError(f"{path}:1: the header has no column {missing[0]}")
    if not rows:
        raise InputError(f"{path}: has no instances")
    named = [(line, dict(zip(columns, row, strict=False))) for line, row in rows]
    return [_instance(path, index, line, cells) for index, (line, cells) in enumerate(named)]


def _instance(path: Path, index: int, line: int, cells: dict[str, str]) -> Instance:
    missing = [name for name in COLUMNS if not cells.get(name)]
    if missing:
        raise InputError(f"{path}:{line}: {missing[0]} is missing")
    expected = cells.get("expected", "").lower()
    if expected not in EXPECTED:
        known = ", ".join(word for word in EXPECTED if word)
        raise InputError(f"{path}:{line}: expected: '{expected}' is not one of {known}")
    family = cells.get("benchmark") or path.absolute().parent.name
    timeout_s = _seconds(cells["timeout"])
    if timeout_s is None:
        raise InputError(f"{path}:{line}: timeout: '{cells['timeout']}' is not a number of seconds above 0")
    made = Instance(index, family, cells["onnx"], cells["vnnlib"], timeout_s, EXPECTED[expected], path.parent)
    for file in made.paths:
        if not file.is_file():
            raise InputError(f"{path}:{line}: {file}: no such file")
    return made


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < math.inf else None
