"""Poolings: maxima and means over windows of images, signals and volumes ``(channels, *sizes)``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network.graph import Node
from kreludomain.network.lowering.entrywise import Decomposition, chain, maximum
from kreludomain.network.operators import Convolution, Gather, Operator, Pad, Scale, Shape

#: One number for each spatial axis.
Sizes = tuple[int, ...]
#: How far padding goes along an axis: before and after.
Margin = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """The windows of a pooling or a convolution, with a number for each spatial axis.

    Windows of ``kernel`` entries, ``dilation`` apart, every ``stride``, of an image padded by ``margins``.

    ``partial``: a last window that begins within the image, or the margin before it, counts although it reaches beyond
    the margin after it.
    """

    kernel: Sizes
    stride: Sizes
    margins: tuple[Margin, ...]
    dilation: Sizes
    partial: bool = False

    def __post_init__(self) -> None:
        if min(*self.kernel, *self.stride, *self.dilation) < 1 or min(min(m) for m in self.margins) < 0:
            raise InputError(
                f"windows of {self.kernel}, strides {self.stride}, dilations {self.dilation}, padding {self.margins}"
            )

    def count(self, axis: int, size: int) -> int:
        """How many windows there are along an axis of ``size`` entries."""
        before, after = self.margins[axis]
        stride = self.stride[axis]
        room = size + before + after - self.dilation[axis] * (self.kernel[axis] - 1) - 1
        count = (-(-room // stride) if self.partial else room // stride) + 1
        if self.partial and (count - 1) * stride >= size + before:
            count -= 1
        if count < 1:
            raise InputError(f"windows of {self.kernel} are larger than a padded axis of {size} entries")
        return count

    def symmetric(self, axis: int, size: int) -> bool:
        """Whether as many windows fit if there is as much padding after the image as before it."""
        same = (self.margins[axis][0],) * 2
        margins = (*self.margins[:axis], same, *self.margins[axis + 1 :])
        return replace(self, margins=margins, partial=False).count(axis, size) == self.count(axis, size)

    def positions(self, axis: int, size: int) -> Tensor:
        """Where each window's entries are along an axis, ``(kernel, windows)``; before 0 and from ``size``: padding."""
        first = torch.arange(self.count(axis, size)) * self.stride[axis] - self.margins[axis][0]
        return first + self.dilation[axis] * torch.arange(self.kernel[axis])[:, None]

    def inside(self, axis: int, size: int) -> Tensor:
        """As :meth:`positions`, with padding replaced by an entry of the same window, which leaves its maximum as it
        is."""
        positions = self.positions(axis, size)
        real = (positions >= 0) & (positions < size)
        if not bool(real.any(0).all()):
            raise InputError(f"a window of {self.kernel} sees nothing but padding")
        some = positions.gather(0, real.byte().argmax(0, keepdim=True))
        return torch.where(real, positions, some)

    def counted(self, axis: int, size: int, padding: bool) -> Tensor:
        """How many of each window's entries an average counts, ``(windows,)``: those of the image, of the margins too
        if ``padding``."""
        before, after = self.margins[axis] if padding else (0, 0)
        positions = self.positions(axis, size)
        return ((positions >= -before) & (positions < size + after)).sum(0)


def max_pool(in_shape: Shape, window: Window) -> Decomposition:
    """The largest entry of each window of a value ``(channels, *sizes)``; padding is never the largest.

    Maxima along one axis after the other, the last one first, so that overlapping windows share their common maxima.
    """

    taps = [window.inside(axis, size) for axis, size in enumerate(_spatial(in_shape))]

    def nodes(name: str, source: str) -> Iterator[Node]:
        shape = in_shape
        for axis in reversed(range(len(taps))):
            result = name if axis == 0 else f"{name}/axis{axis}"
            every = torch.arange(math.prod(shape)).view(shape)
            chosen = [every.index_select(1 + axis, tap) for tap in taps[axis]]
            shape = tuple(chosen[0].shape)
            names = [f"{result}/tap{i}" for i in range(len(chosen))] if len(chosen) > 1 else [result]
            for tap, index in zip(names, chosen, strict=True):
                yield Node(tap, Gather(tuple(every.shape), index), (source,))
            if len(chosen) > 1:
                yield from maximum(shape)(result, *names)
            source = result

    return lambda name, source: tuple(nodes(name, source))


def average_pool(in_shape: Shape, window: Window, padding: bool) -> Decomposition:
    """The mean over each window of a value ``(channels, *sizes)``; with the margins' zeros, or of its own entries only.

    A convolution with one group a channel, then a factor for the windows that count fewer entries.
    """
    sizes, channels = _spatial(in_shape), in_shape[0]
    counted, whole = torch.ones((), dtype=torch.int64), math.prod(window.kernel)
    for axis, size in enumerate(sizes):
        counted = counted[..., None] * window.counted(axis, size, padding)
    if not bool(counted.all()):
        raise InputError(f"a window of {window.kernel} sees nothing but padding")
    operators: list[Operator] = []
    before = tuple(margin[0] for margin in window.margins)
    weight = torch.full((channels, 1, *window.kernel), 1.0 / whole, dtype=torch.float64)
    if not all(window.symmetric(axis, size) for axis, size in enumerate(sizes)):
        reached = [int(window.positions(axis, size).max()) + 1 for axis, size in enumerate(sizes)]
        after = (max(end - size, 0) for end, size in zip(reached, sizes, strict=True))
        operators.append(Pad(in_shape, (0, *before), (0, *after)))
        in_shape, before = operators[0].out_shape, (0,) * len(sizes)
    operators.append(Convolution(weight, None, in_shape, window.stride, before, window.dilation, channels))
    if bool((counted != whole).any()):
        operators.append(Scale(whole / counted.double(), None, operators[-1].out_shape))
    return chain(*operators)


def _spatial(shape: Shape) -> Shape:
    if not 2 <= len(shape) <= 4:
        raise InputError(f"an input of shape {shape}; (channels, sizes) with one to three sizes are pooled")
    return shape[1:]
