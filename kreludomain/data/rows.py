"""Rows as a source has them: what every kind of data is read into."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from kreludomain.errors import InputError


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a source, which ``source`` names in messages, and ``places`` each row ("line 3").

    ``first`` is the position of the first row in the data. ``inputs`` ``(n, ...)``; ``labels`` ``n`` names or numbers,
    ``targets`` ``(n,)`` and ``epsilon`` ``(n, ...)``, each ``None`` where there is none. ``every_label`` reads the
    labels of all rows of the source; ``label_hint`` says what is to be done where they are no classes. ``columns``: the
    names of an input's values, where they have names.
    """

    source: str
    first: int
    places: Sequence[str]
    inputs: np.ndarray
    labels: Sequence[object] | None = None
    targets: np.ndarray | None = None
    epsilon: np.ndarray | None = None
    every_label: Callable[[], Iterable[object]] = tuple
    columns: tuple[str, ...] = ()
    label_hint: str = "give values to regress on as 'targets'"


def no_such_rows(source: str, total: int, first: int, count: int | None) -> InputError:
    """The error that rows ``first`` to ``first + count - 1`` (``None``: to the last) are not there."""
    if not total:
        return InputError(f"{source}: there are no rows")
    wanted = f"row {first} does" if count is None or count == 1 else f"rows {first} to {first + count - 1} do"
    there = "there is 1 row (number 0)" if total == 1 else f"there are {total} rows (from 0)"
    return InputError(f"{source}: {there}, {wanted} not exist")


def chosen(source: str, total: int, first: int, count: int | None) -> slice:
    """The rows that ``first`` and ``count`` ask for of ``total``. Raises :class:`InputError` if they are not there."""
    stop = total if count is None else first + count
    if stop > total or first >= total:
        raise no_such_rows(source, total, first, count)
    return slice(first, stop)
