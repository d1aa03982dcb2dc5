"""Sound bounds of all nodes: interval, zonotope, DeepPoly, and the interfaces every method shares."""

from kreludomain.domain.abstraction import Abstraction, InfeasibleBoundsError, LowerBounds
from kreludomain.domain.backward import back_substitute
from kreludomain.domain.bounds import Bounds, LayerBounds
from kreludomain.domain.decision import Attack, DecisionQuery, DecisionResult
from kreludomain.domain.deeppoly import BackwardAbstraction, DeepPoly
from kreludomain.domain.intersection import Intersection
from kreludomain.domain.interval import Interval, IntervalAbstraction
from kreludomain.domain.method import Method
from kreludomain.domain.query import PriorBounds, Query
from kreludomain.domain.rounding import Rounding
from kreludomain.domain.twins import TwinLines
from kreludomain.domain.zonotope import AffineForm, Zonotope, ZonotopeAbstraction

__all__ = [
    "Abstraction",
    "AffineForm",
    "Attack",
    "BackwardAbstraction",
    "Bounds",
    "DecisionQuery",
    "DecisionResult",
    "DeepPoly",
    "InfeasibleBoundsError",
    "Intersection",
    "Interval",
    "IntervalAbstraction",
    "LayerBounds",
    "LowerBounds",
    "Method",
    "PriorBounds",
    "Query",
    "Rounding",
    "TwinLines",
    "Zonotope",
    "ZonotopeAbstraction",
    "back_substitute",
]
