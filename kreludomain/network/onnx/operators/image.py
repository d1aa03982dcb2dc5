"""Convolutions and poolings of signals, images and volumes."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from kreludomain.errors import InputError
from kreludomain.network.lowering import Window, average_pool, chain, max_pool
from kreludomain.network.lowering.pooling import Margin
from kreludomain.network.onnx.operators.context import Converted, NodeContext, weight
from kreludomain.network.onnx.operators.reduction import maximum_over, sum_over
from kreludomain.network.operators import Convolution, Gather, Pad, Shape, TransposedConvolution


def _spatial(context: NodeContext) -> Shape:
    """The input's shape ``(channels, *sizes)`` with one to three sizes."""
    shape = context.shape()
    if not 3 <= len(shape) <= 5 or shape[0] != 1:
        raise InputError(f"an input of shape {shape}; (1, channels, sizes) with one to three sizes are supported")
    return shape[1:]


def _per_axis(context: NodeContext, name: str, axes: int, default: int = 1) -> tuple[int, ...]:
    """An attribute with a number for each spatial axis."""
    given = tuple(context.attribute(name, (default,) * axes))
    if len(given) != axes:
        raise InputError(f"{name} {given} for {axes} spatial axes")
    return given


def _halves(total: int, later: bool) -> Margin:
    """Padding on both sides of an axis; one more after it, or before it, where it is odd."""
    small, large = total // 2, total - total // 2
    return (small, large) if later else (large, small)


def _pads(context: NodeContext, axes: int) -> tuple[Margin, ...]:
    given = _per_axis(context, "pads", 2 * axes, 0)
    return tuple(zip(given[:axes], given[axes:], strict=True))


def _window(context: NodeContext, kernel: tuple[int, ...]) -> Window:
    sizes = _spatial(context)[1:]
    if len(kernel) != len(sizes):
        raise InputError(f"a kernel of {len(kernel)} axes for an input of shape {context.shape()}")
    strides, dilations = (_per_axis(context, name, len(sizes)) for name in ("strides", "dilations"))
    automatic = context.attribute("auto_pad", b"NOTSET").decode()
    margins: tuple[Margin, ...] = ((0, 0),) * len(sizes)
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        total = [
            max(0, (-(-size // s) - 1) * s + d * (k - 1) + 1 - size)
            for size, s, d, k in zip(sizes, strides, dilations, kernel, strict=True)
        ]
        margins = tuple(_halves(t, automatic == "SAME_UPPER") for t in total)
    elif automatic != "VALID":
        margins = _pads(context, len(sizes))
    return Window(kernel, strides, margins, dilations, bool(context.attribute("ceil_mode", 0)))


def _conv(context: NodeContext) -> Converted:
    """Symmetric padding is the convolution's own; any other becomes a :class:`Pad` in front of it."""
    factor, bias = weight(context.required(1, "W")), context.optional(2, "B")
    window, in_shape = _window(context, tuple(factor.shape[2:])), _spatial(context)
    padding, after = tuple(b for b, _ in window.margins), tuple(a for _, a in window.margins)
    if padding != after:
        pad = Pad(in_shape, (0, *padding), (0, *after))
        context.insert_before(pad)
        in_shape, padding = pad.out_shape, (0,) * len(padding)
    constant = None if bias is None else weight(bias)
    groups = context.attribute("group", 1)
    made = Convolution(factor, constant, in_shape, window.stride, padding, window.dilation, groups)
    return Converted(made, (1, *made.out_shape))


def _conv_transpose(context: NodeContext) -> Converted:
    """The whole transposed convolution, of which padding crops the border."""
    factor, bias, in_shape = weight(context.required(1, "W")), context.optional(2, "B"), _spatial(context)
    kernel, sizes = tuple(factor.shape[2:]), in_shape[1:]
    if len(kernel) != len(sizes):
        raise InputError(f"a kernel of shape {tuple(factor.shape)} for an input of shape {context.shape()}")
    strides, dilations = (_per_axis(context, name, len(sizes)) for name in ("strides", "dilations"))
    extra = _per_axis(context, "output_padding", len(sizes), 0)
    whole = [
        s * (n - 1) + e + d * (k - 1) + 1
        for n, s, e, d, k in zip(sizes, strides, extra, dilations, kernel, strict=True)
    ]
    margins = _cropped(context, whole, strides)
    padding, groups = tuple(max(min(margin), 0) for margin in margins), context.attribute("group", 1)
    whole = [n - min(after, 0) for n, (_, after) in zip(whole, margins, strict=True)]
    symmetric = tuple(n - 2 * p for n, p in zip(whole, padding, strict=True))
    constant = None if bias is None else weight(bias)
    made = TransposedConvolution(factor, constant, in_shape, symmetric, strides, padding, dilations, groups)
    if all(before == max(after, 0) for before, after in margins):
        return Converted(made, (1, *made.out_shape))
    kept = (slice(b - p, n - max(a - p, 0)) for (b, a), p, n in zip(margins, padding, symmetric, strict=True))
    index = torch.arange(math.prod(made.out_shape)).view(made.out_shape)[(slice(None), *kept)].contiguous()
    return Converted(chain(made, Gather(made.out_shape, index)), (1, *index.shape))


def _cropped(context: NodeContext, whole: list[int], strides: tuple[int, ...]) -> tuple[Margin, ...]:
    """How much of a transposed convolution is cropped at each border of each axis; a negative end is added to it."""
    automatic, wanted = context.attribute("auto_pad", b"NOTSET").decode(), context.attribute("output_shape")
    if wanted is not None:
        totals = [size - int(n) for size, n in zip(whole, wanted[-len(whole) :], strict=True)]
    elif automatic in ("SAME_UPPER", "SAME_LOWER"):
        axes = zip(whole, _spatial(context)[1:], strides, strict=True)
        totals = [max(0, size - n * s) for size, n, s in axes]
    else:
        return _pads(context, len(whole)) if automatic == "NOTSET" else ((0, 0),) * len(whole)
    return tuple(_halves(t, automatic == "SAME_UPPER") if t >= 0 else (0, t) for t in totals)


def _pooled(context: NodeContext, window: Window) -> Shape:
    channels, *sizes = _spatial(context)
    return (1, channels, *(window.count(axis, size) for axis, size in enumerate(sizes)))


def _average_pool(context: NodeContext) -> Converted:
    window = _window(context, tuple(context.attribute("kernel_shape")))
    counted = bool(context.attribute("count_include_pad", 0))
    return Converted(average_pool(_spatial(context), window, counted), _pooled(context, window))


def _max_pool(context: NodeContext) -> Converted:
    window = _window(context, tuple(context.attribute("kernel_shape")))
    return Converted(max_pool(_spatial(context), window), _pooled(context, window))


def _whole(context: NodeContext) -> tuple[range, Shape]:
    """The spatial axes, and the shape of a value with one entry left along each."""
    shape = context.shape()
    if len(shape) < 3:
        raise InputError(f"an input of shape {shape} has no spatial axes")
    return range(2, len(shape)), (*shape[:2], *(1,) * (len(shape) - 2))


IMAGES: dict[str, Callable[[NodeContext], Converted]] = {
    "AveragePool": _average_pool,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "GlobalAveragePool": lambda context: sum_over(context, *_whole(context), mean=True),
    "GlobalMaxPool": lambda context: maximum_over(context, *_whole(context)),
    "MaxPool": _max_pool,
}
