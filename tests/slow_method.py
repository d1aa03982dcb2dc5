"""The command line with a method that takes its time: ``python -m slow_method certify ...``."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from kreludomain import Interval, Query
from kreludomain.run.cli import program
from kreludomain.verify import METHODS


@dataclass(frozen=True)
class Slow(Interval):
    """Interval arithmetic with a pause before it."""

    seconds: float = 0.3

    def abstract(self, query: Query) -> Any:
        if query.network.input.shape == (4,):  # not in the rehearsal
            time.sleep(self.seconds)
        return super().abstract(query)


if __name__ == "__main__":
    from slow_method import Slow as Named  # by a name that other nodes can look up

    METHODS["slow"] = Named
    program()
