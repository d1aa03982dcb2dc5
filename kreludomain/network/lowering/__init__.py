"""Functions that are exactly ReLUs and affine operators: leaky ReLU, clipping, maxima, poolings.

Readers decompose them here, so that every method for ReLU networks bounds them too, jointly as well. A
:data:`Decomposition` makes the nodes from the name of the result and the names of the nodes it is applied to.
"""

from kreludomain.network.lowering.entrywise import (
    Decomposition,
    absolute,
    at_least,
    at_most,
    chain,
    clip,
    leaky_relu,
    maximum,
    minimum,
)
from kreludomain.network.lowering.pooling import Window, average_pool, max_pool
from kreludomain.network.lowering.reduction import largest, total

__all__ = [
    "Decomposition",
    "Window",
    "absolute",
    "at_least",
    "at_most",
    "average_pool",
    "chain",
    "clip",
    "largest",
    "leaky_relu",
    "max_pool",
    "maximum",
    "minimum",
    "total",
]
