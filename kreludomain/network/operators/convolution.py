"""Two-dimensional convolutions, and average pooling as one of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from kreludomain.network.operators.base import AffineOperator, Shape

Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Conv2d(AffineOperator):
    """Cross-correlation as in ``torch.nn.Conv2d``.

    ``weight`` is ``(out_channels, in_channels / groups, height, width)``, ``bias`` ``(out_channels,)`` or ``None``,
    ``in_shape`` ``(channels, height, width)``; ``padding`` is symmetric (an asymmetric one is a :class:`Pad` before).
    """

    weight: Tensor
    bias: Tensor | None
    in_shape: Shape
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def _extent(self, axis: int) -> int:
        """Padded input size minus the kernel's reach, along a spatial axis."""
        reach = self.dilation[axis] * (self.weight.shape[2 + axis] - 1) + 1
        return self.in_shape[1 + axis] + 2 * self.padding[axis] - reach

    @property
    def out_shape(self) -> Shape:
        height, width = (self._extent(axis) // self.stride[axis] + 1 for axis in (0, 1))
        return (self.weight.shape[0], height, width)

    @cached_property
    def offset(self) -> Tensor | None:
        return None if self.bias is None else self.bias[:, None, None].expand(self.out_shape)

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.conv2d(x, weight, None, self.stride, self.padding, self.dilation, self.groups)

    def linear(self, *inputs: Tensor) -> Tensor:
        return self._convolve(inputs[0], self.weight)

    def magnitude(self, *radii: Tensor) -> Tensor:
        return self._convolve(radii[0], self.weight.abs())

    def transpose(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        # Rows and columns at the far border that no kernel position reaches are what output_padding puts back.
        missed = tuple(self._extent(axis) % self.stride[axis] for axis in (0, 1))
        return (
            functional.conv_transpose2d(
                coefficients, self.weight, None, self.stride, self.padding, missed, self.groups, self.dilation
            ),
        )


def average_pool(
    in_shape: Shape, kernel: Pair, stride: Pair, padding: Pair, dtype: torch.dtype = torch.float64
) -> Conv2d:
    """Average pooling that counts padded zeros, as a convolution with one group a channel."""
    channels = in_shape[0]
    weight = torch.full((channels, 1, *kernel), 1.0 / (kernel[0] * kernel[1]), dtype=dtype)
    return Conv2d(weight, None, in_shape, stride, padding, groups=channels)
