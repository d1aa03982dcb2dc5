"""Two-dimensional convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from kreludomain.errors import InputError
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

    def __post_init__(self) -> None:
        channels, kernel = self.weight.shape[:1], tuple(self.weight.shape)
        if len(kernel) != 4 or len(self.in_shape) != 3 or kernel[1] * self.groups != self.in_shape[0]:
            raise InputError(f"a kernel of shape {kernel} does not fit an input of {self.in_shape}")
        if min(self._extent(0), self._extent(1)) < 0:
            raise InputError(f"a kernel of shape {kernel} is larger than its padded input of {self.in_shape}")
        if self.bias is not None and self.bias.shape != channels:
            raise InputError(f"a bias of shape {tuple(self.bias.shape)} does not fit {kernel[0]} channels")

    def _extent(self, axis: int) -> int:
        """Padded input size minus the kernel's reach, along a spatial axis."""
        reach = self.dilation[axis] * (self.weight.shape[2 + axis] - 1) + 1
        return self.in_shape[1 + axis] + 2 * self.padding[axis] - reach

    @property
    def out_shape(self) -> Shape:
        height, width = (self._extent(axis) // self.stride[axis] + 1 for axis in (0, 1))
        return (self.weight.shape[0], height, width)

    @property
    def accumulation_length(self) -> int:
        outputs, inputs, height, width = self.weight.shape
        return max(outputs // self.groups, inputs) * height * width

    @cached_property
    def offset(self) -> Tensor | None:
        return None if self.bias is None else self.bias[:, None, None].expand(self.out_shape)

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.conv2d(x, weight, None, self.stride, self.padding, self.dilation, self.groups)

    @cached_property
    def _absolute(self) -> Tensor:
        return self.weight.abs()

    def linear(self, *inputs: Tensor) -> Tensor:
        return self._convolve(inputs[0], self.weight)

    def abs_linear(self, *radii: Tensor) -> Tensor:
        return self._convolve(radii[0], self._absolute)

    def transpose(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        window = _window(coefficients)
        if window is not None:
            return (self._transpose_window(coefficients, *window),)
        # Rows and columns at the far border that no kernel position reaches: output_padding puts them back.
        missed = tuple(self._extent(axis) % self.stride[axis] for axis in (0, 1))
        return (
            functional.conv_transpose2d(
                coefficients, self.weight, None, self.stride, self.padding, missed, self.groups, self.dilation
            ),
        )

    def _transpose_window(self, coefficients: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
        """The transpose of coefficients that vanish outside a window (``height`` by ``width``, its own place a row)."""
        patch = coefficients[_places(coefficients, top, left, height, width)]
        patch = functional.conv_transpose2d(
            patch, self.weight, None, self.stride, groups=self.groups, dilation=self.dilation
        )
        rows, (above, beside) = len(coefficients), self.padding
        channels, size = self.in_shape[0], self.in_shape[1:]
        canvas = coefficients.new_zeros(rows, channels, size[0] + 2 * above, size[1] + 2 * beside)
        corner = top * self.stride[0], left * self.stride[1]
        canvas[_places(canvas, *corner, patch.shape[2], patch.shape[3])] = patch
        return canvas[:, :, above : above + size[0], beside : beside + size[1]]


def _window(coefficients: Tensor) -> tuple[Tensor, Tensor, int, int] | None:
    """Where the entries of each row ``(N, channels, height, width)`` are that are not zero.

    A neuron of a convolutional layer sees a small part of the layers below, so the coefficients of most objectives are
    zero outside a window. Returns the first row and column of each window ``(N,)`` and the common height and width, or
    ``None`` where windows would not save at least three quarters of the entries.
    """
    occupied = (coefficients != 0).any(1)
    height, width = occupied.shape[1:]
    starts, spans = [], []
    for lines, size in ((occupied.any(2), height), (occupied.any(1), width)):
        first, last = lines.byte().argmax(1), size - 1 - lines.flip(1).byte().argmax(1)
        filled = lines.any(1)
        span = int(torch.where(filled, last - first + 1, 1).max()) if len(lines) else size
        starts.append(first.clamp(max=size - span))
        spans.append(span)
    if 4 * spans[0] * spans[1] > height * width:
        return None
    return starts[0], starts[1], spans[0], spans[1]


def _places(values: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> tuple[Tensor, ...]:
    """Indices of a window of each row of ``values``, ``(N, channels, height, width)`` when applied."""
    device = values.device
    row = torch.arange(len(values), device=device)[:, None, None, None]
    channel = torch.arange(values.shape[1], device=device)[None, :, None, None]
    y = (top[:, None] + torch.arange(height, device=device))[:, None, :, None]
    x = (left[:, None] + torch.arange(width, device=device))[:, None, None, :]
    return row, channel, y, x
