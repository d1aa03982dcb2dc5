"""Convolutions and transposed convolutions along one, two or three spatial axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from kreludomain.errors import InputError
from kreludomain.network.operators.base import AffineOperator, Shape

#: One number for each spatial axis.
Sizes = tuple[int, ...]

_CONVOLVE = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_CONVOLVE_TRANSPOSED = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


@dataclass(frozen=True, eq=False)
class Convolution(AffineOperator):
    """Cross-correlation as in ``torch.nn.Conv1d``, ``Conv2d`` and ``Conv3d``.

    ``weight`` is ``(out_channels, in_channels / groups, *kernel)``, ``bias`` ``(out_channels,)`` or ``None``,
    ``in_shape`` ``(channels, *sizes)``; ``stride``, ``padding`` and ``dilation`` have a number for each spatial axis,
    and their defaults are for two. ``padding`` is symmetric (an asymmetric one is a :class:`Pad` before).
    """

    weight: Tensor
    bias: Tensor | None
    in_shape: Shape
    stride: Sizes = (1, 1)
    padding: Sizes = (0, 0)
    dilation: Sizes = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        channels, kernel, spatial = self.weight.shape[:1], tuple(self.weight.shape), len(self.in_shape) - 1
        if spatial not in _CONVOLVE or len(kernel) != spatial + 2 or kernel[1] * self.groups != self.in_shape[0]:
            raise InputError(f"a kernel of shape {kernel} does not fit an input of {self.in_shape}")
        if any(len(given) != spatial for given in (self.stride, self.padding, self.dilation)):
            raise InputError(f"stride, padding and dilation of a kernel of shape {kernel} have {spatial} numbers each")
        if min(self._extents) < 0:
            raise InputError(f"a kernel of shape {kernel} is larger than its padded input of {self.in_shape}")
        if self.bias is not None and self.bias.shape != channels:
            raise InputError(f"a bias of shape {tuple(self.bias.shape)} does not fit {kernel[0]} channels")

    @property
    def missed(self) -> Sizes:
        """Rows and columns at the far border that no position of the kernel reaches, along each spatial axis."""
        return tuple(extent % s for extent, s in zip(self._extents, self.stride, strict=True))

    @property
    def spatial(self) -> int:
        """How many spatial axes there are."""
        return len(self.in_shape) - 1

    @cached_property
    def _extents(self) -> Sizes:
        """Padded input size minus the kernel's reach, along each spatial axis."""
        axes = zip(self.in_shape[1:], self.weight.shape[2:], self.padding, self.dilation, strict=True)
        return tuple(size + 2 * p - d * (taps - 1) - 1 for size, taps, p, d in axes)

    @property
    def out_shape(self) -> Shape:
        sizes = (extent // s + 1 for extent, s in zip(self._extents, self.stride, strict=True))
        return (self.weight.shape[0], *sizes)

    @property
    def accumulation_length(self) -> int:
        outputs, inputs, *kernel = self.weight.shape
        return max(outputs // self.groups, inputs) * math.prod(kernel)

    @cached_property
    def offset(self) -> Tensor | None:
        return None if self.bias is None else _per_channel(self.bias, self.out_shape)

    @cached_property
    def _absolute(self) -> Tensor:
        return self.weight.abs()

    def linear(self, *inputs: Tensor) -> Tensor:
        return self._convolve(inputs[0], self.weight)

    def abs_linear(self, *radii: Tensor) -> Tensor:
        return self._convolve(radii[0], self._absolute)

    def transpose(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        window = _window(coefficients) if self.spatial == 2 else None
        if window is not None:
            return (self._transpose_window(coefficients, *window),)
        return (self.convolve_transposed(coefficients, self.weight),)

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        return _CONVOLVE[self.spatial](x, weight, None, self.stride, self.padding, self.dilation, self.groups)

    def convolve_transposed(self, x: Tensor, weight: Tensor) -> Tensor:
        """The transposed convolution ``(N, *in_shape)`` of ``(N, *out_shape)`` with a weight of the same shape."""
        return _CONVOLVE_TRANSPOSED[self.spatial](
            x, weight, None, self.stride, self.padding, self.missed, self.groups, self.dilation
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


@dataclass(frozen=True, eq=False)
class TransposedConvolution(AffineOperator):
    """The transpose of a :class:`Convolution`, as ``torch.nn.ConvTranspose1d`` to ``ConvTranspose3d``.

    ``weight`` is ``(in_channels, out_channels / groups, *kernel)``, ``bias`` ``(out_channels,)`` or ``None``, ``sizes``
    are those of the value along the spatial axes.
    """

    weight: Tensor
    bias: Tensor | None
    in_shape: Shape
    sizes: Sizes
    stride: Sizes = (1, 1)
    padding: Sizes = (0, 0)
    dilation: Sizes = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        if self.convolution.out_shape != self.in_shape:
            raise InputError(
                f"a transposed convolution of {self.in_shape} with a kernel of shape {tuple(self.weight.shape)} "
                f"cannot have values of sizes {self.sizes}"
            )
        if self.bias is not None and self.bias.shape != self.out_shape[:1]:
            raise InputError(f"a bias of shape {tuple(self.bias.shape)} does not fit {self.out_shape[0]} channels")

    @property
    def output_padding(self) -> Sizes:
        """Entries at the far border that only the bias reaches, along each spatial axis."""
        return self.convolution.missed

    @cached_property
    def convolution(self) -> Convolution:
        """The convolution, from the value's shape to the input's."""
        return Convolution(self.weight, None, self.out_shape, self.stride, self.padding, self.dilation, self.groups)

    @property
    def out_shape(self) -> Shape:
        return (self.weight.shape[1] * self.groups, *self.sizes)

    @property
    def accumulation_length(self) -> int:
        return self.convolution.accumulation_length

    @cached_property
    def offset(self) -> Tensor | None:
        return None if self.bias is None else _per_channel(self.bias, self.out_shape)

    def linear(self, *inputs: Tensor) -> Tensor:
        return self.convolution.convolve_transposed(inputs[0], self.weight)

    def abs_linear(self, *radii: Tensor) -> Tensor:
        return self.convolution.convolve_transposed(radii[0], self.weight.abs())

    def transpose(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        return (self.convolution.linear(coefficients),)


def _per_channel(bias: Tensor, shape: Shape) -> Tensor:
    return bias.reshape(-1, *(1,) * (len(shape) - 1)).expand(shape)


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
