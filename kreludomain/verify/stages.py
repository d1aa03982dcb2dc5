"""The seconds that go into each stage of a decision."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class StageSeconds(dict[str, float]):
    """Seconds by stage; a stage that is gone through several times has the sum of them."""

    def add(self, stage: str, seconds: float) -> None:
        self[stage] = self.get(stage, 0.0) + seconds

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Takes the time of a ``with`` block."""
        start = time.monotonic()
        yield
        self.add(stage, time.monotonic() - start)
