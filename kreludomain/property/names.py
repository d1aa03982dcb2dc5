"""What data calls its features and its classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kreludomain.errors import InputError, did_you_mean

#: The most names that a message lists.
MOST = 20


@dataclass(frozen=True)
class Names:
    """The names of an input's entries in their order (flat), and of the classes; empty where the data has none."""

    features: tuple[str, ...] = ()
    classes: Mapping[str, int] = field(default_factory=dict)

    def feature(self, given: int | str) -> int:
        """A feature's position. Raises :class:`InputError` for a name that the data does not have."""
        return _number(given, {name: position for position, name in enumerate(self.features)}, "feature")

    def label(self, given: int | str) -> int:
        """A class's number. Raises :class:`InputError` for a name that the data does not have."""
        return _number(given, self.classes, "class")


#: Of data without names.
NO_NAMES = Names()


def _number(given: int | str, names: Mapping[str, int], what: str) -> int:
    if isinstance(given, int):
        return given
    if given in names:
        return names[given]
    there = f"there are {', '.join([*names][:MOST])}{', ...' * (len(names) > MOST)}"
    where = there if names else "the data names none, so give its number, from 0"
    raise InputError(f"there is no {what} '{given}'; {where}{did_you_mean(given, names)}")
