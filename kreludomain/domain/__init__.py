"""Sound bounds of all nodes: interval, zonotope, DeepPoly, and the interfaces every method shares."""

from kreludomain.domain.abstraction import Abstraction, ClaimMethod, ContradictionError, Known, Method, Minima, prepare
from kreludomain.domain.backward import Step, back_substitute
from kreludomain.domain.bounds import Bounds, LayerBounds
from kreludomain.domain.combined import Combined
from kreludomain.domain.deeppoly import BackwardAbstraction, DeepPoly
from kreludomain.domain.interval import Interval
from kreludomain.domain.relu import LOWER_SLOPES
from kreludomain.domain.rounding import Rounding
from kreludomain.domain.zonotope import Zonotope

__all__ = [
    "LOWER_SLOPES",
    "Abstraction",
    "BackwardAbstraction",
    "Bounds",
    "ClaimMethod",
    "Combined",
    "ContradictionError",
    "DeepPoly",
    "Interval",
    "Known",
    "LayerBounds",
    "Method",
    "Minima",
    "Rounding",
    "Step",
    "Zonotope",
    "back_substitute",
    "prepare",
]
