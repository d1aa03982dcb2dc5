"""Convolutions, poolings and resizing, of signals, images and volumes ``(1, channels, *sizes)``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network.torch.memory import Value
from kreludomain.network.torch.operators.base import Graph, Writer, result_shape
from kreludomain.network.torch.operators.layout import moved
from kreludomain.network.torch.recorder import Step


def _spread(numbers: int | Sequence[int], count: int) -> list[int]:
    """One number for each spatial axis; torch allows one for all."""
    given = [numbers] if isinstance(numbers, int) else list(numbers)
    return given * count if len(given) == 1 else given


def _convolution(graph: Graph, step: Step) -> str:
    x, weight, bias = (step.arguments[name] for name in ("input", "weight", "bias"))
    count = len(weight.shape) - 2
    strides, padding, dilations = (_spread(step.arguments[name], count) for name in ("stride", "padding", "dilation"))
    names = [graph.operand(operand) for operand in (x, weight, bias) if operand is not None]
    attributes = {"strides": strides, "pads": padding * 2, "dilations": dilations, "group": step.arguments["groups"]}
    if not step.arguments["transposed"]:
        return graph.add("Conv", *names, **attributes)
    added = _spread(step.arguments["output_padding"], count)
    return graph.add("ConvTranspose", *names, output_padding=added, **attributes)


def _pooling(count: int, op_type: str) -> Writer:
    """Positions of the largest entries, the second result, are not written."""

    def write(graph: Graph, step: Step) -> str:
        value, given = step.arguments["self"], step.arguments
        kernel = _spread(given["kernel_size"], count)
        attributes = {
            "kernel_shape": kernel,
            "strides": _spread(given["stride"], count) if given.get("stride") else kernel,
            "pads": _spread(given["padding"], count) * 2,
            "ceil_mode": int(given["ceil_mode"]),
        }
        if op_type == "MaxPool":
            attributes["dilations"] = _spread(given["dilation"], count)
        else:
            attributes["count_include_pad"] = int(given["count_include_pad"])
        name, divisor = graph.operand(value), given.get("divisor_override")
        batch = len(value.shape) == count + 2
        name = name if batch else graph.shaped(name, (1, *value.shape))
        if divisor:
            if given["ceil_mode"]:
                raise InputError("divisor_override with ceil_mode is not supported")
            whole = torch.Size(kernel).numel()
            attributes["count_include_pad"] = 1
            name = graph.add(op_type, name, **attributes)
            name = graph.add("Mul", name, graph.operand(whole / divisor))
        else:
            name = graph.add(op_type, name, **attributes)
        return name if batch else graph.shaped(name, result_shape(step))

    return write


def _adaptive(count: int, op_type: str) -> Writer:
    """Windows of one size where the sizes divide; else an average is a product with a matrix along each axis."""

    def write(graph: Graph, step: Step) -> str:
        sizes, wanted = step.arguments["self"].shape[-count:], result_shape(step)[-count:]
        if all(size % target == 0 for size, target in zip(sizes, wanted, strict=True)):
            kernel = [size // target for size, target in zip(sizes, wanted, strict=True)]
            return graph.add(op_type, graph.operand(step.arguments["self"]), kernel_shape=kernel, strides=kernel)
        if op_type == "MaxPool":
            raise InputError(f"adaptive maxima from {tuple(sizes)} to {tuple(wanted)}; sizes that divide are supported")
        return along_axes(graph, step, count)

    return write


def along_axes(graph: Graph, step: Step, count: int) -> str:
    """A linear operation that acts on each of the last ``count`` axes on its own, as products with its matrices.

    The matrix of an axis is what the operation itself makes of the unit vectors along it, and of ones along the others:
    its rows sum to one.
    """
    value = step.arguments["self"]
    name, rank = graph.operand(value), len(value.shape)
    wanted = result_shape(step)
    for axis in range(rank - count, rank):
        matrix = _matrix(step, value, axis, rank)
        if axis == rank - 1:
            name = graph.add("MatMul", name, graph.operand(matrix))
        else:
            order = [*range(rank)]
            order[axis], order[-1] = order[-1], order[axis]
            turned = graph.add("MatMul", graph.add("Transpose", name, perm=order), graph.operand(matrix))
            name = graph.add("Transpose", turned, perm=order)
    if wanted[: rank - count] != value.shape[: rank - count]:
        raise InputError("an operation that changes more than the last axes is not supported")
    return name


def _matrix(step: Step, value: Value, axis: int, rank: int) -> Tensor:
    """``(size before, size after)`` along one axis."""
    size = value.shape[axis]
    units = torch.eye(size, dtype=torch.float64).view(size, 1, *(size if i == axis else 1 for i in range(2, rank)))
    units = units.expand(size, 1, *value.shape[2:]).contiguous()
    made: Tensor = step.operation(**{**step.arguments, "self": units})
    return made.movedim(axis, -1)[:, 0].flatten(1, -2)[:, 0] if rank > 3 else made[:, 0]


def _resizing(count: int) -> Writer:
    return lambda graph, step: along_axes(graph, step, count)


IMAGES: dict[str, Writer] = {
    "convolution": _convolution,
    "_convolution": _convolution,
    "max_pool2d_with_indices": _pooling(2, "MaxPool"),
    "max_pool3d_with_indices": _pooling(3, "MaxPool"),
    "avg_pool2d": _pooling(2, "AveragePool"),
    "avg_pool3d": _pooling(3, "AveragePool"),
    "_adaptive_avg_pool2d": _adaptive(2, "AveragePool"),
    "_adaptive_avg_pool3d": _adaptive(3, "AveragePool"),
    "adaptive_max_pool2d": _adaptive(2, "MaxPool"),
    "adaptive_max_pool3d": _adaptive(3, "MaxPool"),
    **dict.fromkeys(("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"), moved),
    **dict.fromkeys(("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d"), moved),
    "upsample_linear1d": _resizing(1),
    "upsample_bilinear2d": _resizing(2),
    "_upsample_bilinear2d_aa": _resizing(2),
    "upsample_bicubic2d": _resizing(2),
    "_upsample_bicubic2d_aa": _resizing(2),
    "upsample_trilinear3d": _resizing(3),
}
