"""Convolutions and poolings of images."""

from __future__ import annotations

from kreludomain.errors import InputError
from kreludomain.network.lowering import Window, average_pool, max_pool
from kreludomain.network.onnx.operators.context import Converted, NodeContext, weight
from kreludomain.network.operators import Conv2d, Pad, Shape


def _image(context: NodeContext) -> Shape:
    """The image's shape ``(channels, height, width)``."""
    shape = context.shape()
    if len(shape) != 4 or shape[0] != 1:
        raise InputError(f"an input of shape {shape}; images (1, channels, height, width) are supported")
    return shape[1:]


def _window(context: NodeContext, kernel: tuple[int, ...]) -> Window:
    if len(kernel) != 2:
        raise InputError(f"a kernel of shape {kernel}; two spatial dimensions are supported")
    sizes = _image(context)[1:]
    strides, dilations = (tuple(context.attribute(name, (1, 1))) for name in ("strides", "dilations"))
    automatic = context.attribute("auto_pad", b"NOTSET").decode()
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        total = [
            max(0, (-(-size // s) - 1) * s + d * (k - 1) + 1 - size)
            for size, s, d, k in zip(sizes, strides, dilations, kernel, strict=True)
        ]
        halves = [(t // 2, t - t // 2) for t in total]
        margins = [pair if automatic == "SAME_UPPER" else pair[::-1] for pair in halves]
    elif automatic == "VALID":
        margins = [(0, 0), (0, 0)]
    else:
        top, left, bottom, right = context.attribute("pads", (0, 0, 0, 0))
        margins = [(top, bottom), (left, right)]
    partial = bool(context.attribute("ceil_mode", 0))
    return Window((kernel[0], kernel[1]), strides, (margins[0], margins[1]), dilations, partial)


def _conv(context: NodeContext) -> Converted:
    """Symmetric padding is the convolution's own; any other becomes a :class:`Pad` in front of it."""
    factor, bias = weight(context.required(1, "W")), context.optional(2, "B")
    window, in_shape = _window(context, tuple(factor.shape[2:])), _image(context)
    (top, bottom), (left, right) = window.margins
    padding = (top, left)
    if padding != (bottom, right):
        pad = Pad(in_shape, (0, top, left), (0, bottom, right))
        context.insert_before(pad)
        in_shape, padding = pad.out_shape, (0, 0)
    constant = None if bias is None else weight(bias)
    groups = context.attribute("group", 1)
    made = Conv2d(factor, constant, in_shape, window.stride, padding, window.dilation, groups)
    return Converted(made, (1, *made.out_shape))


def _pooled(context: NodeContext, window: Window) -> Shape:
    channels, *sizes = _image(context)
    return (1, channels, *(window.count(axis, size) for axis, size in enumerate(sizes)))


def _average_pool(context: NodeContext) -> Converted:
    window = _window(context, tuple(context.attribute("kernel_shape")))
    counted = bool(context.attribute("count_include_pad", 0))
    return Converted(average_pool(_image(context), window, counted), _pooled(context, window))


def _max_pool(context: NodeContext) -> Converted:
    window = _window(context, tuple(context.attribute("kernel_shape")))
    return Converted(max_pool(_image(context), window), _pooled(context, window))


def _whole(context: NodeContext) -> Window:
    height, width = _image(context)[1:]
    return Window((height, width), (1, 1))


def _global_average_pool(context: NodeContext) -> Converted:
    return Converted(average_pool(_image(context), _whole(context), True), _pooled(context, _whole(context)))


def _global_max_pool(context: NodeContext) -> Converted:
    return Converted(max_pool(_image(context), _whole(context)), _pooled(context, _whole(context)))


IMAGES = {
    "AveragePool": _average_pool,
    "Conv": _conv,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "MaxPool": _max_pool,
}
