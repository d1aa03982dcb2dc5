"""What a method finds out about a sample: a row of ``certify`` and ``compare``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kreludomain.verify import Verdict


@dataclass(frozen=True)
class Row:
    """What a method found out about a sample. Numbers that are not finite are ``None``.

    ``index`` is the sample's position in the data, ``method`` its label, ``lower_bounds`` has one bound a row of the
    claim (``None`` where no method ran), ``reason`` says why it stopped, ``counterexample`` is a file in the folder,
    ``widths`` has the mean width of the bounds of each layer by its name (nothing where no method ran), ``stages`` the
    seconds that went into each stage of the method.
    """

    index: int
    label: int
    predicted: int
    method: str
    verdict: Verdict = Verdict.UNKNOWN
    lower_bounds: tuple[float | None, ...] | None = None
    margin: float | None = None
    seconds: float = 0.0
    reason: str = ""
    notes: tuple[str, ...] = ()
    counterexample: str | None = None
    widths: Mapping[str, float | None] = field(default_factory=dict)
    stages: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Row:
        """The row that was written as ``values``. Raises ``ValueError`` for what is no row."""
        try:
            row = cls(**values)
            bounds = None if row.lower_bounds is None else tuple(row.lower_bounds)
            return dataclasses.replace(row, verdict=Verdict(row.verdict), lower_bounds=bounds, notes=tuple(row.notes))
        except TypeError as error:
            raise ValueError(str(error)) from None
