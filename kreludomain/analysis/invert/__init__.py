"""Certified invertibility: how far around a point a ReLU network is invertible, by mixed-integer programs.

::

    options = InvertibilityOptions(radius=1.0, epsilon=0.01, norm="2", method="deeppoly")
    r = pair_radius(network, center, options, timeout_s=60)       # no two points within r have one image
    R = preimage_radius(network, center, options, timeout_s=60)   # no other point within R has the centre's image
    t = transformation_radius(first, second, center, options, 60) # within t, second is a function of first
    r.lower, r.upper, r.strict, r.witness
"""

from kreludomain.analysis.invert.ball_search import Effort
from kreludomain.analysis.invert.options import InvertibilityOptions
from kreludomain.analysis.invert.radius import (
    InvertibilityRadius,
    check_can_be_invertible,
    check_same_inputs,
    pair_radius,
    preimage_radius,
    transformation_radius,
)
from kreludomain.analysis.invert.witness import Witness, jacobian, reverses_orientation

__all__ = [
    "Effort",
    "InvertibilityOptions",
    "InvertibilityRadius",
    "Witness",
    "check_can_be_invertible",
    "check_same_inputs",
    "jacobian",
    "pair_radius",
    "preimage_radius",
    "reverses_orientation",
    "transformation_radius",
]
