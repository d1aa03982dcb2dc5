"""The rows of ``benchmark``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kreludomain.run.engine.study import Key, Row


@dataclass(frozen=True)
class InstanceRow(Row):
    """The answer to an instance.

    ``expected`` and ``result`` are words of a results file (``expected`` is empty if nothing is known), ``seconds`` are
    those of its process, ``stages`` those of the method's stages, ``counterexample`` is a file in the folder.
    """

    index: int
    family: str
    network: str
    specification: str
    expected: str
    result: str = "unknown"
    seconds: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    counterexample: str | None = None

    @property
    def key(self) -> Key:
        return (self.index,)

    @property
    def outcome(self) -> str:
        return self.result

    @property
    def name(self) -> str:
        return f"{self.network} {self.specification}"

    @property
    def solved(self) -> bool:
        return self.result in ("sat", "unsat")

    @property
    def wrong(self) -> bool:
        """Whether it contradicts what is expected."""
        return self.solved and self.expected not in ("", self.result)
