"""Resizing: along each axis a matrix that only the sizes determine, or for nearest neighbours a selection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from kreludomain.errors import InputError
from kreludomain.network.onnx.operators.context import Converted, NodeContext
from kreludomain.network.onnx.operators.reduction import along_axis


@dataclass(frozen=True)
class _Axis:
    """How an axis is resized: from ``size`` to ``count`` entries, ``scale`` times as many; ``roi`` is of crops."""

    size: int
    count: int
    scale: float
    roi: tuple[float, float] = (0.0, 1.0)

    @property
    def same(self) -> bool:
        """Whether nothing is resized."""
        return self.size == self.count and self.scale == 1 and self.roi == (0.0, 1.0)


def _half_pixel_symmetric(axis: _Axis, i: np.ndarray) -> np.ndarray:
    centre = axis.size / 2 * (1 - axis.count / (axis.scale * axis.size))
    found: np.ndarray = centre + (i + 0.5) / axis.scale - 0.5
    return found


def _cropped(axis: _Axis, i: np.ndarray) -> np.ndarray:
    start, end = axis.roi
    if axis.count == 1:
        return np.full(1, 0.5 * (start + end) * (axis.size - 1))
    return start * (axis.size - 1) + i * (end - start) * (axis.size - 1) / (axis.count - 1)


#: Where an entry of the result lies among those of the input, by ONNX's coordinate_transformation_mode.
_COORDINATES: dict[str, Callable[[_Axis, np.ndarray], np.ndarray]] = {
    "align_corners": lambda axis, i: i * (axis.size - 1) / max(axis.count - 1, 1),
    "asymmetric": lambda axis, i: i / axis.scale,
    "half_pixel": lambda axis, i: (i + 0.5) / axis.scale - 0.5,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "pytorch_half_pixel": lambda axis, i: (i + 0.5) / axis.scale - 0.5 if axis.count > 1 else i * 0.0,
    "tf_crop_and_resize": _cropped,
    "tf_half_pixel_for_nn": lambda axis, i: (i + 0.5) / axis.scale,
}
#: ONNX's nearest_mode.
_NEAREST: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "ceil": np.ceil,
    "floor": np.floor,
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
}


def _tent(distance: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.maximum(1 - np.abs(distance), 0)
    return found


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Cubic convolution (Keys, IEEE TASSP 1981, equation 8)."""
    d = np.abs(distance)
    near, far = ((a + 2) * d - (a + 3)) * d * d + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _text(context: NodeContext, name: str, default: str) -> str:
    return bytes(context.attribute(name, default.encode())).decode()


def _interpolation(context: NodeContext, axis: _Axis, x: np.ndarray) -> torch.Tensor:
    """The matrix ``(count, size)`` of linear or cubic interpolation at ``x``."""
    mode, a = _text(context, "mode", "nearest"), float(context.attribute("cubic_coeff_a", -0.75))
    kernel: Callable[[np.ndarray], np.ndarray] = _tent if mode == "linear" else lambda d: _cubic(d, a)
    shrink = min(axis.scale, 1.0) if context.attribute("antialias", 0) else 1.0
    reach = (1 if mode == "linear" else 2) / shrink
    first = np.floor(x - reach).astype(np.int64) + 1
    taps = first[:, None] + np.arange(int(np.ceil(2 * reach)) + 1)
    share = kernel(shrink * (taps - x[:, None]))
    outside = (taps < 0) | (taps >= axis.size)
    if context.attribute("exclude_outside", 0):
        share = np.where(outside, 0.0, share)
    share = share / share.sum(1, keepdims=True)
    matrix = np.zeros((axis.count, axis.size))
    np.add.at(matrix, (np.arange(axis.count)[:, None], taps.clip(0, axis.size - 1)), share)
    return torch.from_numpy(matrix)


def _axes(context: NodeContext) -> list[_Axis]:
    """How each ONNX axis is resized; sizes, scales and roi may be given for some axes only."""
    shape = context.shape()
    rank = len(shape)
    chosen = [int(a) % rank for a in context.attribute("axes", range(rank))]
    old = context.op_type == "Upsample" or len(context.inputs) == 2  # Upsample, and Resize of opset 10
    scales = context.optional(1 if old else 2, "the scales")
    scales = np.asarray(context.attribute("scales"), dtype=np.float64) if scales is None and old else scales
    sizes, roi = (None, None) if old else (context.optional(3, "the sizes"), context.optional(1, "roi"))
    crop = _text(context, "coordinate_transformation_mode", "") == "tf_crop_and_resize"
    result = [_Axis(n, n, 1.0) for n in shape]
    for position, axis in enumerate(chosen):
        part = (0.0, 1.0)
        if roi is not None and roi.size and crop:
            part = (float(roi[position]), float(roi[len(chosen) + position]))
        if sizes is not None and sizes.size:
            count, scale = int(sizes[position]), float(sizes[position]) / shape[axis]
        elif scales is not None and scales.size:
            scale = float(scales[position])
            count = int(np.floor(shape[axis] * (part[1] - part[0]) * scale))
        else:
            raise InputError("neither sizes nor scales are there")
        if count < 1:
            raise InputError(f"axis {axis} has no entries afterwards")
        result[axis] = _Axis(shape[axis], count, scale, part)
    policy = _text(context, "keep_aspect_ratio_policy", "stretch")
    if policy != "stretch" and sizes is not None:
        choose = min if policy == "not_larger" else max
        scale = choose(result[axis].scale for axis in chosen)
        for axis in chosen:
            result[axis] = _Axis(shape[axis], int(np.floor(shape[axis] * scale + 0.5)), scale)
    return result


def _resize(context: NodeContext) -> Converted:
    axes, mode = _axes(context), _text(context, "mode", "nearest")
    old = context.op_type == "Upsample" or len(context.inputs) == 2
    transform = _text(context, "coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    nearest = _text(context, "nearest_mode", "floor" if old else "round_prefer_floor")
    if transform not in _COORDINATES or nearest not in _NEAREST or mode not in ("nearest", "linear", "cubic"):
        raise InputError(f"mode {mode}, {transform}, {nearest} is not known")
    context.inputs[:] = context.inputs[:1]
    places = {i: _COORDINATES[transform](a, np.arange(a.count)) for i, a in enumerate(axes) if not a.same}
    if not places:
        return Converted(None, context.shape())
    crop = transform == "tf_crop_and_resize"
    fill = float(context.attribute("extrapolation_value", 0.0))
    outside = {i: crop & ((x < 0) | (x > axes[i].size - 1)) for i, x in places.items()}
    if any(o.any() for o in outside.values()):
        raise InputError(f"a crop reaches beyond the image (extrapolation_value {fill:g}), which is not supported")
    if mode == "nearest":
        index = context.positions()
        for i, x in places.items():
            index = index.take(_NEAREST[nearest](x).clip(0, axes[i].size - 1).astype(np.int64), axis=i)
        return context.selected(index)
    *before, last = places
    for i in before:
        context.replace(along_axis(context, i, _interpolation(context, axes[i], places[i])))
    return along_axis(context, last, _interpolation(context, axes[last], places[last]))


RESIZES: dict[str, Callable[[NodeContext], Converted]] = {"Resize": _resize, "Upsample": _resize}
