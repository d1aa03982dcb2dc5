"""Seeing relaxations: reachable sets in a plane, and the relaxations of two neurons."""

from kreludomain.analysis.reachable.group import RELAXATIONS, Pair, faces, ordered, relaxed, volume
from kreludomain.analysis.reachable.plane import Bounded, Plane, protrusions, support
from kreludomain.analysis.reachable.polygon import Circumscribed, Support, area, circumscribe, outward, split
from kreludomain.analysis.reachable.truth import Truth, linear_pieces, sampled_inputs, truth

__all__ = [
    "RELAXATIONS",
    "Bounded",
    "Circumscribed",
    "Pair",
    "Plane",
    "Support",
    "Truth",
    "area",
    "circumscribe",
    "faces",
    "linear_pieces",
    "ordered",
    "outward",
    "protrusions",
    "relaxed",
    "sampled_inputs",
    "split",
    "support",
    "truth",
    "volume",
]
