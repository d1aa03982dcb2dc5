"""Tables: rows of cells under columns, some of which are the label, the target and so on."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from kreludomain.data.keys import TableKeys
from kreludomain.data.rows import Rows
from kreludomain.errors import InputError, did_you_mean

#: The most columns that a message lists.
MOST = 20


@dataclass(frozen=True)
class Head:
    """The columns of a table: how many, and their names where they have names."""

    source: str
    names: tuple[str, ...] | None
    width: int

    def position(self, column: int | str, key: str) -> int:
        """The position of the column that ``key`` names. Raises :class:`InputError` if there is none, or several."""
        where = f"{self.source}: {key}"
        if isinstance(column, int):
            if not -self.width <= column < self.width:
                raise InputError(f"{where}: there is no column {column}; they are 0 to {self.width - 1}")
            return column % self.width
        if self.names is None:
            raise InputError(f"{where}: '{column}' is a name; if the first line names the columns: header: true")
        found = [position for position, name in enumerate(self.names) if name == column]
        if len(found) > 1:
            raise InputError(f"{where}: columns {found[0]} and {found[1]} are both called '{column}'; give a position")
        if not found:
            meant = did_you_mean(column, self.names)
            raise InputError(f"{where}: there is no column '{column}'; there are {self._listed()}{meant}")
        return found[0]

    def name(self, position: int) -> str:
        """A column in a message."""
        return f"column {position} (from 0)" if self.names is None else f"column '{self.names[position]}'"

    def _listed(self) -> str:
        names = [f"'{name}'" for name in (self.names or ())[:MOST]]
        return ", ".join([*names, "..."] if self.width > MOST else names)


@dataclass(frozen=True)
class Roles:
    """What the columns of a table are, by their positions. ``said``: whether the keys say which one the label is."""

    label: int | None
    target: int | None
    epsilon: int | None
    values: tuple[int, ...]
    said: bool

    @property
    def numeric(self) -> list[int]:
        """The columns in which a header has a name and a row a number, as far as its labels are numbers."""
        return [*self.values, *(p for p in (self.label, self.target, self.epsilon) if p is not None)]


def roles_of(head: Head, keys: TableKeys) -> Roles:
    """What the columns are. Raises :class:`InputError` for one that is not there, or is two things."""
    taken: dict[int, str] = {}

    def take(key: str, column: int | str) -> int:
        position = head.position(column, key)
        if position in taken:
            raise InputError(f"{head.source}: {key}: {head.name(position)} is named by '{taken[position]}' too")
        taken[position] = key
        return position

    given = {key: getattr(keys, key) for key in ("label", "target", "epsilon", "index")}
    found = {key: take(key, column) for key, column in given.items() if column not in (None, "none")}
    for column in keys.drop:
        take("drop", column)
    values = tuple(take("columns", column) for column in keys.columns or ())
    if "index" not in found and head.names is not None and head.names[0] == "" and 0 not in taken:
        taken[0] = "index"  # the rows' numbers, as pandas writes them
    others = [position for position in range(head.width) if position not in taken]
    if keys.label is None and keys.target is None and others:
        found["label"] = others.pop(0)
    values = values if keys.columns is not None else tuple(others)
    return Roles(found.get("label"), found.get("target"), found.get("epsilon"), values, keys.label is not None)


@dataclass(frozen=True, eq=False)
class Table:
    """Chosen rows of a table: ``cells`` ``(n, width)``, ``places`` of the rows, and the index of the ``first`` one."""

    head: Head
    roles: Roles
    cells: np.ndarray
    places: Sequence[str]
    first: int

    def rows(self, size: int, every_label: Callable[[], Iterable[object]]) -> Rows:
        """The rows by the roles of their columns, for inputs of ``size`` values.

        Raises :class:`InputError` for another number of columns of values, and for a cell that is no number.
        """
        roles = self.roles
        if len(roles.values) != size:
            raise InputError(f"{self.head.source}: {self._size_text(size)}")
        return Rows(
            source=self.head.source,
            first=self.first,
            places=self.places,
            inputs=self._numbers(roles.values),
            labels=None if roles.label is None else self.cells[:, roles.label].tolist(),
            targets=None if roles.target is None else self._numbers([roles.target])[:, 0],
            epsilon=None if roles.epsilon is None else self._numbers([roles.epsilon])[:, 0],
            every_label=every_label,
            columns=() if self.head.names is None else tuple(self.head.names[position] for position in roles.values),
            label_hint=f"{self._label_text}; a column to regress on is named in 'target'",
        )

    def _numbers(self, positions: Sequence[int]) -> np.ndarray:
        """The numbers of some columns, ``(n, columns)``. Raises :class:`InputError` that names the first other cell."""
        cells = self.cells[:, list(positions)]
        try:  # twice as fast as astype, which is slow for text
            numbers = np.fromiter(map(float, cells.ravel()), np.float64, cells.size).reshape(cells.shape)
        except (TypeError, ValueError):
            numbers = np.array([[number(cell) for cell in row] for row in cells])
        wrong = np.argwhere(~np.isfinite(numbers))
        if len(wrong):
            row, column = (int(axis) for axis in wrong[0])
            words = not np.isfinite(numbers[:, column]).any() and len(numbers) > 1
            text = _wrong_text(cells[row, column], self.head.name(positions[column]), words)
            if words and self.roles.label is not None and not self.roles.said:
                text += f"; {self._label_text}"
            raise InputError(f"{self.head.source}: {self.places[row]}: {text}")
        return numbers

    @property
    def _label_text(self) -> str:
        """Which column the label is, and how to say another."""
        name = "" if self.roles.label is None else self.head.name(self.roles.label)
        return f"the label is {name}" if self.roles.said else f"the label is taken to be {name}: 'label' names another"

    def _size_text(self, size: int) -> str:
        values, label = self.roles.values, self.roles.label
        beside = "" if label is None else f" beside the label ({self.head.name(label)})"
        text = f"{len(values)} columns of values{beside}, the network takes {size}"
        if self.head.width == 1:
            return f"one column, the network takes {size} values; 'delimiter' says what separates columns"
        if self.head.width == size and label is not None and not self.roles.said:
            return f"{text}; if the rows have no label: label: none"
        if len(values) > size:
            return f"{text}; name a column that numbers the rows in 'index', others that are no values in 'drop'"
        return text


def number(cell: object) -> float:
    """The number in a cell; NaN if there is none."""
    try:
        return float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return float("nan")


def is_number(cell: str) -> bool:
    """Whether a cell is what a number is written as, infinite ones and NaN included."""
    return not math.isnan(number(cell)) or cell.strip().lower() == "nan"


def has_comma(cell: str) -> bool:
    return re.fullmatch(r"[-+]?[\d.]+(,\d+)+(\.\d+)?", cell.strip()) is not None


def _wrong_text(cell: object, name: str, whole_column: bool) -> str:
    """What is wrong with a cell; ``whole_column``: there is no number in its column."""
    text = "" if cell is None or cell != cell else str(cell).strip()  # NaN is not equal to itself
    if text in ("", "<NA>", "NaT"):
        return f"{name} is blank"
    if has_comma(text):
        return f"'{text}' in {name} has a comma; numbers are written as 1234.5"
    if whole_column and not is_number(text):
        return (
            f"'{text}' in {name} is not a number; give words as the numbers that the network was trained on "
            "(0 and 1 for each word, for example), or leave the column out with 'drop'"
        )
    return f"'{text}' in {name} is not a finite number"
