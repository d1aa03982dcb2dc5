"""Groupings by name, and the options of the methods that use one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from kreludomain.domain import Abstraction
from kreludomain.errors import InputError, did_you_mean
from kreludomain.groups.by_area import ByArea
from kreludomain.groups.by_correlation import ByCorrelation
from kreludomain.groups.grouping import Grouping
from kreludomain.options import Options


@dataclass(frozen=True)
class Auto(Grouping):
    """:class:`ByCorrelation` in convolutions, :class:`ByArea` elsewhere.

    With as many groups each, that is what gains more: neurons whose receptive fields do not meet gain nothing together,
    while in dense layers all are somewhat correlated and groups of the largest triangles gain more.
    """

    def groups(self, abstraction: Abstraction, node: str) -> Sequence[Tensor]:
        kind = ByCorrelation if len(abstraction.network[node].shape) == 3 else ByArea
        return kind(self.k, self.partition_size, self.overlap).groups(abstraction, node)


#: Groupings by name. One of your own is used by name, in YAML too, once it has an entry.
GROUPINGS: dict[str, type[Grouping]] = {"auto": Auto, "area": ByArea, "correlation": ByCorrelation}


@dataclass(frozen=True, kw_only=True)
class GroupingOptions(Options):
    """Options of a method that relaxes groups of neurons jointly.

    ``grouping``: a name, made with ``k``, ``partition_size`` and ``overlap`` (see :class:`Grouping`), or a
    :class:`Grouping` with options of its own. ``partition_size`` ``None`` is the grouping's default.
    """

    k: int = 3
    partition_size: int | None = None
    overlap: int = 1
    grouping: str | Grouping = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.make_grouping()  # raises for an unknown name, and for options that make no groups

    @property
    def group_size(self) -> int:
        """How many neurons are relaxed jointly, at most."""
        return self.make_grouping().k

    def make_grouping(self) -> Grouping:
        """The grouping. Raises :class:`InputError` for an unknown name, or options that make no groups."""
        if isinstance(self.grouping, Grouping):
            return self.grouping
        if self.grouping not in GROUPINGS:
            meant = did_you_mean(self.grouping, GROUPINGS)
            raise InputError(f"grouping: '{self.grouping}' is not one of {', '.join(GROUPINGS)}{meant}")
        kind = GROUPINGS[self.grouping]
        if self.partition_size is None:
            return kind(k=self.k, overlap=self.overlap)
        return kind(k=self.k, partition_size=self.partition_size, overlap=self.overlap)
