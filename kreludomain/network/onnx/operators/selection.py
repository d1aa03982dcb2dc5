"""Operators whose value is made of entries of their inputs, at places that are constants."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kreludomain.errors import InputError
from kreludomain.network.onnx.operators.choice import chosen
from kreludomain.network.onnx.operators.context import Converted, NodeContext


def _split(context: NodeContext) -> list[Converted]:
    """Parts along an axis: their sizes are an attribute before opset 13, an input since, or all the same."""
    axis, shape = context.axis("axis", 0, len(context.shape())), context.shape()
    given = context.attribute("split")
    given = context.optional(1, "the sizes") if given is None else given
    if given is None:  # the last part may be shorter
        count = int(context.attribute("num_outputs", context.outputs))
        size = -(-shape[axis] // count)
        given = [max(0, min(size, shape[axis] - i * size)) for i in range(count)]
    sizes = [int(size) for size in np.asarray(given).ravel()]
    if sum(sizes) != shape[axis] or min(sizes) < 0:
        raise InputError(f"parts of {sizes} entries of an axis of {shape[axis]}")
    parts = np.split(context.positions(), np.cumsum(sizes)[:-1], axis)
    context.inputs[:] = context.inputs[:1]
    return [context.selected(part) for part in parts]


def _where(context: NodeContext) -> Converted:
    condition = context.constant(0)
    if condition is None:
        return chosen(context, 0, 1, 2)
    return context.assembled([1, 2], lambda parts: np.where(condition, *parts))


def _expand(context: NodeContext) -> Converted:
    target = tuple(int(n) for n in context.required(1, "the shape").ravel())
    shape = np.broadcast_shapes(context.shape(), target)
    return context.selected(np.broadcast_to(context.positions(), shape))


def _tile(context: NodeContext) -> Converted:
    return context.selected(np.tile(context.positions(), context.required(1, "the repeats").astype(np.int64)))


def _image_positions(context: NodeContext) -> tuple[np.ndarray, int]:
    shape, block = context.shape(), int(context.attribute("blocksize"))
    if len(shape) != 4:
        raise InputError(f"an input of shape {shape}; images (batch, channels, height, width) are supported")
    return context.positions(), block


def _depth_to_space(context: NodeContext) -> Converted:
    positions, block = _image_positions(context)
    batch, channels, height, width = positions.shape
    depth = channels // block**2
    if context.attribute("mode", b"DCR").decode() == "DCR":
        moved = positions.reshape(batch, block, block, depth, height, width).transpose(0, 3, 4, 1, 5, 2)
    else:
        moved = positions.reshape(batch, depth, block, block, height, width).transpose(0, 1, 4, 2, 5, 3)
    return context.selected(moved.reshape(batch, depth, height * block, width * block))


def _space_to_depth(context: NodeContext) -> Converted:
    positions, block = _image_positions(context)
    batch, channels, height, width = positions.shape
    rows, columns = height // block, width // block
    moved = positions.reshape(batch, channels, rows, block, columns, block).transpose(0, 3, 5, 1, 2, 4)
    return context.selected(moved.reshape(batch, channels * block**2, rows, columns))


def _wrapped(indices: np.ndarray, size: int | np.ndarray) -> np.ndarray:
    """Indices that count from the end where they are negative."""
    wide = indices.astype(np.int64)
    if ((wide < -np.asarray(size)) | (wide >= size)).any():
        raise InputError(f"indices from {wide.min()} to {wide.max()} of an axis of {size}")
    return np.where(wide < 0, wide + size, wide)


def _gather_elements(context: NodeContext) -> Converted:
    axis = context.axis("axis", 0, len(context.shape()))
    indices = _wrapped(context.required(1, "the indices"), context.shape()[axis])
    kept = tuple(slice(None) if i == axis else slice(n) for i, n in enumerate(indices.shape))
    return context.selected(np.take_along_axis(context.positions()[kept], indices, axis))


def _gather_nd(context: NodeContext) -> Converted:
    """Index vectors along the last axis; the first ``batch_dims`` axes are common to both."""
    indices, common, shape = (
        context.required(1, "the indices"),
        int(context.attribute("batch_dims", 0)),
        context.shape(),
    )
    depth = indices.shape[-1]
    chosen = _wrapped(indices, np.array(shape[common : common + depth]))
    own = np.ogrid[tuple(slice(n) for n in indices.shape[:-1])][:common] if common else []
    return context.selected(context.positions()[(*own, *np.moveaxis(chosen, -1, 0))])


def _overwritten(context: NodeContext, places: tuple[np.ndarray, ...]) -> Converted:
    """The first input with the entries at ``places`` replaced by those of the third."""
    if context.attribute("reduction", b"none").decode() != "none":
        raise InputError("a reduction is not supported; entries are replaced")

    def combine(parts: list[np.ndarray]) -> np.ndarray:
        value = parts[0].copy()
        value[places] = parts[1]
        return value

    return context.assembled([0, 2], combine)


def _scatter_elements(context: NodeContext) -> Converted:
    axis = context.axis("axis", 0, len(context.shape()))
    indices = _wrapped(context.required(1, "the indices"), context.shape()[axis])
    places = list[np.ndarray](np.indices(indices.shape))
    places[axis] = indices
    return _overwritten(context, tuple(places))


def _scatter_nd(context: NodeContext) -> Converted:
    indices = context.required(1, "the indices")
    places = tuple(np.moveaxis(_wrapped(indices, np.array(context.shape()[: indices.shape[-1]])), -1, 0))
    return _overwritten(context, places)


def _triangle(context: NodeContext) -> Converted:
    given = context.optional(1, "k")
    diagonal = 0 if given is None else int(given.reshape(()))
    keep = np.triu if context.attribute("upper", 1) else np.tril
    kept = keep(np.ones(context.shape(), dtype=bool), diagonal)
    return context.selected(np.where(kept, context.positions(), -1))


def _compress(context: NodeContext) -> Converted:
    condition, axis = context.required(1, "the condition"), context.attribute("axis")
    return context.selected(np.compress(condition, context.positions(), axis))


def _reverse_sequence(context: NodeContext) -> Converted:
    lengths = context.required(1, "the lengths")
    batch, time = int(context.attribute("batch_axis", 1)), int(context.attribute("time_axis", 0))
    moved = np.moveaxis(context.positions(), (batch, time), (0, 1)).copy()
    for row, length in zip(moved, lengths.astype(int), strict=True):
        row[:length] = row[:length][::-1].copy()
    return context.selected(np.moveaxis(moved, (0, 1), (batch, time)))


SELECTIONS: dict[str, Callable[[NodeContext], Converted | list[Converted]]] = {
    "Compress": _compress,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "ReverseSequence": _reverse_sequence,
    "Scatter": _scatter_elements,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Tile": _tile,
    "Trilu": _triangle,
    "Where": _where,
}
