"""A sample: an input, and what the data says about it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.property.names import NO_NAMES, Names


@dataclass(frozen=True, eq=False)
class Sample:
    """A row of the data.

    ``index``: its position in the data, from 0. ``label``: its class, a number from 0; ``None`` where the data has
    none. ``x``: the input ``(*input_shape)`` in float64. ``target``: the value to regress on, where there is one.
    ``name``: the label in the data's own words, such as "setosa". ``epsilon``: how far the inputs of its region may be
    from it, a number ``()`` or one an entry ``(*input_shape)``, where the data says so. ``names``: what all of the data
    calls its features and classes.
    """

    index: int
    label: int | None
    x: Tensor
    target: float | None = None
    name: str | None = None
    epsilon: Tensor | None = None
    names: Names = NO_NAMES

    @property
    def known_label(self) -> int:
        """The label. Raises :class:`InputError` where the data has none."""
        if self.label is None:
            raise InputError("no label in the data")
        return self.label
