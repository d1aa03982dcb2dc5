"""Options of an invertibility analysis."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kreludomain.domain import Method
from kreludomain.errors import InputError
from kreludomain.property import norm_name


@dataclass(frozen=True)
class InvertibilityOptions:
    """How an invertibility radius is searched.

    ``radius``: how far from the centre; balls of the shares ``stages`` of it are searched one after the other, since
    bounds over a small ball are tight and its program small. ``epsilon``: how far apart two points are to be two (for
    a transformation: how far apart images are to be two), in the maximum norm. ``norm``: 1, 2 or inf, of distances
    from the centre. ``clip``: the range of inputs. ``method``: the method that bounds the neurons. ``gap``: the
    relative gap of a bracket at which to stop. ``strict``: also ask about points closer than ``epsilon``.

    Raises :class:`InputError` for values that make no sense.
    """

    radius: float
    epsilon: float
    norm: str = "inf"
    clip: tuple[float, float] | None = None
    method: str | Method = "deeppoly"
    gap: float = 1e-3
    stages: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0)
    strict: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "norm", norm_name(self.norm))
        for name in ("radius", "epsilon", "gap"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise InputError(f"{name}: {value!r} is not a finite number above 0")
        rising = all(a < b for a, b in zip((0.0, *self.stages), self.stages, strict=False))
        if not rising or not self.stages or self.stages[-1] != 1:
            raise InputError(f"stages: {list(self.stages)} are not shares that rise from above 0 to 1")
