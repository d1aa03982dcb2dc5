"""The operators a network is made of, one family a file."""

from kreludomain.network.operators.activation import Relu
from kreludomain.network.operators.base import Activation, AffineOperator, Input, Operator, Shape
from kreludomain.network.operators.convolution import Conv2d, average_pool
from kreludomain.network.operators.dense import Linear
from kreludomain.network.operators.elementwise import Scale, Sum
from kreludomain.network.operators.layout import Pad, Permute, Reshape

__all__ = [
    "Activation",
    "AffineOperator",
    "Conv2d",
    "Input",
    "Linear",
    "Operator",
    "Pad",
    "Permute",
    "Relu",
    "Reshape",
    "Scale",
    "Shape",
    "Sum",
    "average_pool",
]
