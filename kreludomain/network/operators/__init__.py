"""The operators a network is made of, one family a file."""

from kreludomain.network.operators.activation import Activation
from kreludomain.network.operators.base import AffineOperator, Input, Operator, Shape
from kreludomain.network.operators.convolution import Convolution, TransposedConvolution
from kreludomain.network.operators.dense import Linear
from kreludomain.network.operators.elementwise import PairMaximum, Scale, Sum, channel_scale
from kreludomain.network.operators.layout import Concat, Gather, Pad, Permute, Reshape

__all__ = [
    "Activation",
    "AffineOperator",
    "Concat",
    "Convolution",
    "Gather",
    "Input",
    "Linear",
    "Operator",
    "Pad",
    "PairMaximum",
    "Permute",
    "Reshape",
    "Scale",
    "Shape",
    "Sum",
    "TransposedConvolution",
    "channel_scale",
]
