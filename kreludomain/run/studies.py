"""The table of studies: each is a command."""

from __future__ import annotations

from typing import Any

from kreludomain.run.certify.study import Certify, Compare
from kreludomain.run.engine.study import Study
from kreludomain.run.invert.study import Invert
from kreludomain.run.lipschitz.study import LipschitzStudy
from kreludomain.run.moments.study import MomentsStudy
from kreludomain.run.radius.study import RadiusStudy
from kreludomain.run.show.study import Show
from kreludomain.run.vnncomp.study import Benchmark

STUDIES: tuple[type[Study[Any, Any, Any]], ...] = (
    Certify,
    Compare,
    RadiusStudy,
    Benchmark,
    LipschitzStudy,
    MomentsStudy,
    Show,
    Invert,
)
