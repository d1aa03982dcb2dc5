"""Rows of any source as samples: the one place where values become inputs of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from kreludomain.data.entries import normalisation
from kreludomain.data.keys import DataKeys
from kreludomain.data.labels import numbered
from kreludomain.data.layout import arranged
from kreludomain.data.rows import Rows
from kreludomain.data.sample import Sample
from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.property.names import Names


def as_samples(
    rows: Rows, keys: DataKeys, network: Network, located: Callable[[str], Path] = Path
) -> tuple[Sample, ...]:
    """Rows as inputs of a network, by the keys that all data has; ``located`` says where files are that they name."""
    _require_finite(rows, "values", rows.inputs)
    _require_finite(rows, "target", rows.targets)
    _require_finite(rows, "epsilon", rows.epsilon)
    values = torch.from_numpy(arranged(rows.inputs / keys.scale, network, keys.layout, rows.source))
    normalise = normalisation(keys, network, located)
    if normalise is not None and keys.normalise is not None and not keys.normalise.applied:
        values = normalise(values)
    labels: Sequence[tuple[int | None, str | None]] = [(None, None)] * len(values)
    classes: Mapping[str, int] = {}
    if rows.labels is not None:
        labels, classes = numbered(rows, keys.classes, network)
    names = Names(_as_arranged(rows, keys, network), classes)
    return tuple(
        Sample(
            index=rows.first + row,
            label=label,
            x=values[row],
            target=None if rows.targets is None else float(rows.targets[row]),
            name=name,
            epsilon=None if rows.epsilon is None else torch.tensor(rows.epsilon[row], dtype=torch.float64),
            names=names,
        )
        for row, (label, name) in enumerate(labels)
    )


def _as_arranged(rows: Rows, keys: DataKeys, network: Network) -> tuple[str, ...]:
    """The names of the values in the order in which inputs have them."""
    positions = np.arange(float(len(rows.columns)))[None]
    order = arranged(positions, network, keys.layout, rows.source).flatten() if rows.columns else ()
    return tuple(rows.columns[int(position)] for position in order)


def _require_finite(rows: Rows, what: str, values: np.ndarray | None) -> None:
    if values is None or np.isfinite(values).all():
        return
    row, *entry = (int(axis) for axis in np.argwhere(~np.isfinite(values))[0])
    at = f"{what}[{', '.join(map(str, entry))}]" if entry else what
    raise InputError(f"{rows.source}: {rows.places[row]}: {at}: {values[(row, *entry)]} is not a finite number")
