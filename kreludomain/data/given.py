"""Samples from what a Python session has: paths of files, data frames, arrays, data sets."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from kreludomain.data.arrays import Arrays, as_array, named, with_answers
from kreludomain.data.inputs import as_samples
from kreludomain.data.keys import GivenArrayKeys, NamedArrayKeys, TableKeys
from kreludomain.data.rows import Rows, chosen, no_such_rows
from kreludomain.data.sample import Sample
from kreludomain.data.sources import file_keys, read_samples
from kreludomain.data.table import Head, Table, roles_of
from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.options import check


def samples(source: Any, network: Network, **keys: Any) -> tuple[Sample, ...]:
    """Samples for a network, from what people have data in; ``keys`` are those of ``data`` in a configuration.

    ``source``:

    - a file: ``.csv`` (or other text with a row a line), ``.npy``, ``.npz``, ``.pt``; ``"digits"`` for scikit-learn's;
    - a data frame of pandas: a table, as a CSV file with a header is, so ``label="species"``, ``target="price"``,
      ``drop=["id"]``, ...; the first column is the label if nothing is said, ``label=None``: there is none;
    - an array or a tensor of inputs ``(n, ...)``; ``labels``, ``targets``, ``epsilon``: arrays ``(n,)`` of theirs;
    - a pair ``(inputs, labels)``, or arrays by their names, of which ``inputs=NAME`` and ``labels=NAME`` choose;
    - a data set: anything with inputs, or pairs of an input and a label, one after the other.

    All take ``classes``, ``scale``, ``layout``, ``normalise``, ``first`` and ``count``::

        samples = kd.samples("iris.csv", network, header=True, label="species", classes=["setosa", "versicolor"])
        samples = kd.samples(frame, network, target="price", count=20)
        samples = kd.samples(images, network, labels=labels, scale=255, layout="hwc")

    Raises :class:`InputError`: one line that names the file, the line or the row, and the key.
    """
    if isinstance(source, str | Path):
        return read_samples(file_keys(source, keys), network)
    name = type(source).__name__
    if hasattr(source, "columns") and hasattr(source, "to_numpy"):
        table = check(TableKeys, keys, name)
        return as_samples(_frame(source, name, table, network.size(network.input.name)), table, network)
    if isinstance(source, Mapping):
        names = check(NamedArrayKeys, keys, name)
        return as_samples(named(name, source, names).rows(name, names.first, names.count), names, network)
    given = check(GivenArrayKeys, keys, name)
    return as_samples(_given(source, name, given), given, network)


def _frame(frame: Any, name: str, keys: TableKeys, size: int) -> Rows:
    """The rows of a data frame."""
    head = Head(name, tuple(map(str, frame.columns)), len(frame.columns))
    roles, part = roles_of(head, keys), chosen(name, len(frame), keys.first, keys.count)
    places = [f"row {row}" for row in range(part.start, part.stop)]
    table = Table(head, roles, frame[part].to_numpy(), places, keys.first)
    return table.rows(size, lambda: frame[frame.columns[roles.label]].to_numpy())


def _given(source: Any, name: str, keys: GivenArrayKeys) -> Rows:
    """The rows of arrays, of a pair of arrays, or of a data set."""
    offset, beside = 0, {key: getattr(keys, key) for key in ("labels", "targets", "epsilon")}
    arrays = {key: as_array(values, f"{name}: {key}") for key, values in beside.items() if values is not None}
    if isinstance(source, tuple):
        if len(source) != 2:
            raise InputError(f"{name}: {len(source)} arrays; a pair of inputs and labels is expected")
        found = with_answers(*(as_array(part, name) for part in source))
    elif isinstance(source, Tensor | np.ndarray | list):
        found = Arrays(as_array(source, name))
    else:
        offset, found = keys.first, _data_set(source, name, keys.first, keys.count)
    return replace(found, **arrays).rows(name, keys.first, keys.count, offset)


def _data_set(source: Any, name: str, first: int, count: int | None) -> Arrays:
    """The chosen items of a data set, inputs or pairs of an input and a label."""
    if hasattr(source, "dataset") and hasattr(source, "batch_size"):
        raise InputError(f"{name}: gives batches; pass its data set: loader.dataset")
    items: Iterable[Any]
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        stop = len(source) if count is None else min(len(source), first + count)
        items = [source[row] for row in range(first, stop)]
    elif isinstance(source, Iterable):
        items = list(itertools.islice(source, first, None if count is None else first + count))
    else:
        raise InputError(f"{name}: neither a file, an array, a data frame nor a data set")
    if not items:
        raise no_such_rows(name, len(source) if hasattr(source, "__len__") else 0, first, count)
    pairs = [item if isinstance(item, tuple | list) else (item, None) for item in items]
    if any(len(pair) != 2 for pair in pairs):
        raise InputError(f"{name}: its items are neither inputs nor pairs of an input and a label")
    inputs, answers = zip(*pairs, strict=True)
    try:
        stacked = np.stack([as_array(x, name) for x in inputs])
    except ValueError:
        raise InputError(f"{name}: its inputs are of different shapes") from None
    return with_answers(stacked, None if answers[0] is None else np.array([as_array(y, name) for y in answers]))
