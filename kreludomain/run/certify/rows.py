"""The rows of ``certify`` and ``compare``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kreludomain.run.engine.study import Key, Row
from kreludomain.verify import Verdict


@dataclass(frozen=True)
class CertifyRow(Row):
    """A method's verdict on a sample. Numbers that are not finite are ``None``.

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

    @property
    def key(self) -> Key:
        return self.index, self.method

    @property
    def outcome(self) -> str:
        return self.verdict.value
