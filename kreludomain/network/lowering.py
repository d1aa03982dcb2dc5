"""Functions that are exactly ReLUs and affine operators: leaky ReLU, clipping, maxima, poolings.

Both readers decompose them here, so that every method for ReLU networks bounds them too, jointly as well. A
:data:`Decomposition` makes the nodes from the name of the result and the name of the node it is applied to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kreludomain.activations import Relu
from kreludomain.errors import InputError
from kreludomain.network.graph import Node
from kreludomain.network.operators import Activation, Conv2d, Gather, Operator, Pad, PairMaximum, Scale, Shape, Sum

#: ``(name, source) -> nodes`` that compute a function of the node ``source``; the last one is called ``name``.
Decomposition = Callable[[str, str], tuple[Node, ...]]
#: How far padding goes along an axis: before and after.
Margin = tuple[int, int]


def chain(*operators: Operator) -> Decomposition:
    """One operator after the other, each with one input."""

    def nodes(name: str, source: str) -> Iterator[Node]:
        for position, operator in enumerate(operators, 1):
            inner = name if position == len(operators) else f"{name}/{position}"
            yield Node(inner, operator, (source,))
            source = inner

    return lambda name, source: tuple(nodes(name, source))


def leaky_relu(shape: Shape, slope: float | Tensor) -> Decomposition:
    """``x`` where it is positive, ``slope * x`` elsewhere: ``slope * x + (1 - slope) * ReLU(x)``.

    ``slope`` broadcasts to ``shape``.
    """
    factor = torch.as_tensor(slope, dtype=torch.float64)

    def nodes(name: str, source: str) -> tuple[Node, ...]:
        return (
            Node(f"{name}/relu", Activation(Relu(), shape), (source,)),
            Node(f"{name}/above", Scale(1 - factor, None, shape), (f"{name}/relu",)),
            Node(f"{name}/below", Scale(factor, None, shape), (source,)),
            Node(name, Sum((1, 1), shape), (f"{name}/above", f"{name}/below")),
        )

    return nodes


def clip(shape: Shape, lower: float, upper: float) -> Decomposition:
    """``min(max(x, lower), upper)``; an infinite side does not clip.

    A chain, ``upper - ReLU((upper - lower) - ReLU(x - lower))``, so that even intervals lose nothing on it.
    """
    if not lower <= upper or lower == torch.inf or upper == -torch.inf:  # NaN is not <= anything
        raise InputError(f"clipping to [{lower:g}, {upper:g}]; a lower side below the upper one is expected")

    def scale(multiplier: float, shift: float) -> Operator:
        factor, added = (torch.tensor(v, dtype=torch.float64) for v in (multiplier, shift))
        return Scale(factor, added, shape)

    relu = Activation(Relu(), shape)
    if upper == torch.inf and lower == -torch.inf:
        return chain(scale(1.0, 0.0))
    if upper == torch.inf:
        return chain(scale(1.0, -lower), relu, scale(1.0, lower))
    if lower == -torch.inf:
        return chain(scale(-1.0, upper), relu, scale(-1.0, upper))
    return chain(scale(1.0, -lower), relu, scale(-1.0, upper - lower), relu, scale(-1.0, upper))


@dataclass(frozen=True)
class Window:
    """The windows of a pooling, along height and width.

    Windows of ``kernel`` entries, ``dilation`` apart, every ``stride``, of an image padded by ``margins``.

    ``partial``: a last window that begins within the image, or the margin before it, counts although it reaches beyond
    the margin after it.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    margins: tuple[Margin, Margin] = ((0, 0), (0, 0))
    dilation: tuple[int, int] = (1, 1)
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
            raise InputError(f"windows of {self.kernel} are larger than a padded image of {size} rows or columns")
        return count

    def symmetric(self, axis: int, size: int) -> bool:
        """Whether as many windows fit if there is as much padding after the image as before it."""
        same = (self.margins[axis][0],) * 2
        margins = (same, self.margins[1]) if axis == 0 else (self.margins[0], same)
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
    """The largest entry of each window of an image ``(channels, height, width)``; padding is never the largest.

    Maxima of two along the width, then along the height, so that overlapping windows share their
    common maxima.
    """
    channels, height, width = _image(in_shape)
    across, down = window.inside(1, width), window.inside(0, height)
    wide = (channels, height, across.shape[1])

    def nodes(name: str, source: str) -> tuple[Node, ...]:
        every = torch.arange(channels * height * width).view(in_shape)
        made = list(_maximum(f"{name}/across", source, in_shape, [every[:, :, tap] for tap in across]))
        middle = made[-1].name if made else source
        every = torch.arange(channels * height * wide[2]).view(wide)
        made += _maximum(f"{name}/down", middle, wide, [every[:, tap] for tap in down])
        last = made.pop()
        return (*made, Node(name, last.operator, last.inputs))

    return nodes


def _maximum(name: str, source: str, in_shape: Shape, taps: list[Tensor]) -> Iterator[Node]:
    """The entrywise maximum of several selections of one node's entries, as a balanced tree; the last node is it."""
    values = []
    for position, tap in enumerate(taps):
        values.append(f"{name}/tap{position}")
        yield Node(values[-1], Gather(in_shape, tap.contiguous()), (source,))
    shape, made = tuple(taps[0].shape), 0
    while len(values) > 1:
        pairs = list(zip(values[0::2], values[1::2], strict=False))
        rest = values[2 * len(pairs) :]
        values = []
        for a, b in pairs:
            yield from maximum(shape)(f"{name}/max{made}", a, b)
            values.append(f"{name}/max{made}")
            made += 1
        values += rest


def maximum(shape: Shape) -> Callable[[str, str, str], tuple[Node, ...]]:
    """The larger of two nodes' values, entry by entry: ``b + ReLU(a - b)``, as ``(name, a, b) -> nodes``."""

    def nodes(name: str, a: str, b: str) -> tuple[Node, ...]:
        return (
            Node(f"{name}/difference", Sum((1, -1), shape), (a, b)),
            Node(f"{name}/relu", Activation(Relu(), shape), (f"{name}/difference",)),
            Node(name, PairMaximum(shape), (a, b, f"{name}/relu")),
        )

    return nodes


def average_pool(in_shape: Shape, window: Window, padding: bool) -> Decomposition:
    """The mean over each window of an image; with the margins' zeros, or of the image's own entries only.

    A convolution with one group a channel, then a factor for the windows that count fewer entries.
    """
    channels, *sizes = _image(in_shape)
    counts = [window.counted(axis, size, padding) for axis, size in enumerate(sizes)]
    counted, whole = counts[0][:, None] * counts[1], window.kernel[0] * window.kernel[1]
    if not bool(counted.all()):
        raise InputError(f"a window of {window.kernel} sees nothing but padding")
    operators: list[Operator] = []
    before = (window.margins[0][0], window.margins[1][0])
    weight = torch.full((channels, 1, *window.kernel), 1.0 / whole, dtype=torch.float64)
    if not all(window.symmetric(axis, size) for axis, size in enumerate(sizes)):
        reached = [int(window.positions(axis, size).max()) + 1 for axis, size in enumerate(sizes)]
        after = (max(end - size, 0) for end, size in zip(reached, sizes, strict=True))
        operators.append(Pad(in_shape, (0, *before), (0, *after)))
        in_shape, before = operators[0].out_shape, (0, 0)
    operators.append(Conv2d(weight, None, in_shape, window.stride, before, window.dilation, channels))
    if bool((counted != whole).any()):
        operators.append(Scale(whole / counted.double(), None, operators[-1].out_shape))
    return chain(*operators)


def _image(shape: Shape) -> Shape:
    if len(shape) != 3:
        raise InputError(f"an input of shape {shape}; only images (channels, height, width) are pooled")
    return shape
