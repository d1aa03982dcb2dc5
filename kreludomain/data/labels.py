"""Labels as classes: numbers as they are, names by a list of classes."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np

from kreludomain.data.rows import Rows
from kreludomain.errors import InputError
from kreludomain.network import Network

LOG = logging.getLogger(__name__)

#: The most classes that a message lists.
MOST = 12


def numbered(
    rows: Rows, classes: Sequence[str | int] | None, network: Network
) -> tuple[list[tuple[int, str | None]], dict[str, int]]:
    """The class of each row, and its name where labels have names; and all classes by their names.

    Whole numbers are classes as they are. Names, and all labels where ``classes`` are given, are numbered by their
    position in ``classes``; without it in sorted order (that of scikit-learn), which a warning says.
    """
    labels = [plain(label) for label in rows.labels or ()]
    if "" in labels:
        raise InputError(f"{rows.source}: {rows.places[labels.index('')]}: the label is blank")
    if classes is None:
        if all(isinstance(label, float) for label in labels):
            _require_from_zero(labels, rows, network)
            return [(_class(label, place, rows), None) for label, place in zip(labels, rows.places, strict=True)], {}
        classes = _sorted_classes(rows, network)
    _require_fit(classes, network, rows.source)
    position = {plain(name): number for number, name in enumerate(classes)}
    found: list[tuple[int, str | None]] = []
    for label, place in zip(labels, rows.places, strict=True):
        if label not in position:
            raise InputError(f"{rows.source}: {place}: {_none_of(label, classes)}")
        found.append((position[label], str(classes[position[label]])))
    return found, {str(name): number for number, name in enumerate(classes)}


def plain(label: object) -> str | float:
    """A label as a number where it is one, or as text."""
    if isinstance(label, bool | np.bool_ | int | float | np.integer | np.floating):
        return "" if math.isnan(label) else float(label)
    text = label.decode() if isinstance(label, bytes) else "" if label is None else str(label).strip()
    try:
        return float(text) if math.isfinite(float(text)) else text
    except ValueError:
        return text


def _class(label: str | float, place: str, rows: Rows) -> int:
    if not isinstance(label, float) or not label.is_integer():
        raise InputError(f"{rows.source}: {place}: the label {_shown(label)} is not a whole number; {rows.label_hint}")
    if label < 0:
        raise InputError(
            f"{rows.source}: {place}: the label {_shown(label)} is below 0; "
            f"classes: [{_shown(label)}, ...] numbers the labels in the order of the network's outputs"
        )
    return int(label)


def _require_from_zero(labels: Sequence[str | float], rows: Rows, network: Network) -> None:
    """Raises :class:`InputError` for labels that count the outputs from 1."""
    outputs = network.size(network.output.name)
    if outputs > 1 and outputs in labels and {plain(label) for label in rows.every_label()} <= {*range(1, outputs + 1)}:
        classes = _listed(range(1, outputs + 1))
        raise InputError(f"{rows.source}: the labels count from 1: classes: [{classes}]; from 0 they are outputs")


def _sorted_classes(rows: Rows, network: Network) -> list[str]:
    """The names of the source, sorted; if they are as many as the network's outputs."""
    labels = {plain(label) for label in rows.every_label()} - {""}
    names = sorted(label if isinstance(label, str) else _shown(label) for label in labels)
    outputs = network.size(network.output.name)
    order = f"classes: [{_listed(names)}]"
    if outputs > 1 and len(names) != outputs:
        raise InputError(
            f"{rows.source}: the labels have {len(names)} different names, the network has {outputs} outputs; "
            f"give all classes in the order of the outputs: {order}"
        )
    LOG.warning(
        "%s: the order of the network's outputs is taken to be %s (sorted); if it is another, give it",
        *(rows.source, order),
    )
    return names


def _require_fit(classes: Sequence[str | int], network: Network, source: str) -> None:
    outputs = network.size(network.output.name)
    if 1 < outputs < len(classes):
        raise InputError(f"{source}: classes: {len(classes)} classes, the network has {outputs} outputs")


def _none_of(label: str | float, classes: Sequence[str | int]) -> str:
    return f"the label {_shown(label)} is none of the classes {_listed(classes)}"


def _listed(names: Sequence[str | int]) -> str:
    shown = [str(name) for name in names[:MOST]]
    return ", ".join([*shown, "..."] if len(names) > MOST else shown)


def _shown(label: str | float) -> str:
    return f"'{label}'" if isinstance(label, str) else f"{label:g}"
