"""Operators that only move entries about."""

from __future__ import annotations

import numpy as np

from kreludomain.errors import InputError
from kreludomain.network.lowering import chain
from kreludomain.network.onnx.operators.context import Converted, NodeContext, compact, rearranged
from kreludomain.network.operators import Pad


def _sized(context: NodeContext, target: list[int]) -> Converted:
    """The value under an ONNX shape, where one entry may be -1."""
    wanted = list(target)
    if wanted.count(-1) == 1:
        known = int(np.prod([t for t in wanted if t != -1], dtype=np.int64))
        wanted[wanted.index(-1)] = context.size() // max(known, 1)
    if min(wanted, default=1) < 1 or int(np.prod(wanted, dtype=np.int64)) != context.size():
        raise InputError(f"cannot reshape {context.shape()} to {tuple(target)}")
    return context.reshaped(tuple(wanted))


def _reshape(context: NodeContext) -> Converted:
    target = [int(t) for t in context.required(1, "the shape").ravel()]
    if not context.attribute("allowzero", 0):
        current = context.shape()
        target = [current[i] if t == 0 and i < len(current) else t for i, t in enumerate(target)]
    return _sized(context, target)


def _flatten(context: NodeContext) -> Converted:
    shape = context.shape()
    axis = int(context.attribute("axis", 1))
    if not -len(shape) <= axis <= len(shape):
        raise InputError(f"axis {axis} of a value with {len(shape)} axes")
    axis = axis + len(shape) if axis < 0 else axis
    before, after = (int(np.prod(part, dtype=np.int64)) for part in (shape[:axis], shape[axis:]))
    return context.reshaped((before, after))


def _axes(context: NodeContext, position: int) -> list[int] | None:
    """An attribute in older opsets, an input in newer ones; may be absent."""
    axes = context.attribute("axes")
    axes = context.optional(position, "axes") if axes is None else axes
    return None if axes is None else [int(a) for a in np.asarray(axes).ravel()]


def _squeeze(context: NodeContext) -> Converted:
    current, axes = context.shape(), _axes(context, 1)
    dropped = {i for i, n in enumerate(current) if n == 1} if axes is None else {a % len(current) for a in axes}
    if any(current[axis] != 1 for axis in dropped):
        raise InputError(f"axes {axes} of a value of shape {current}; only axes of one entry can go")
    return context.reshaped(tuple(n for i, n in enumerate(current) if i not in dropped))


def _unsqueeze(context: NodeContext) -> Converted:
    axes, current = _axes(context, 1), context.shape()
    if axes is None:
        raise InputError("axes are missing")
    rank = len(current) + len(axes)
    added, rest = {a % rank for a in axes}, iter(current)
    return context.reshaped(tuple(1 if i in added else next(rest) for i in range(rank)))


def _transpose(context: NodeContext) -> Converted:
    shape = context.shape()
    order = tuple(context.attribute("perm", tuple(reversed(range(len(shape))))))
    result = tuple(shape[axis] for axis in order)
    steps = rearranged(shape, order, compact(result))
    return Converted(chain(*steps) if steps else None, result)


def _slice(context: NodeContext) -> Converted:
    rank = len(context.shape())
    given = [context.attribute(name) for name in ("starts", "ends", "axes")]  # before opset 10
    names = ("the starts", "the ends", "the axes", "the steps")
    inputs = [context.optional(i, name) for i, name in enumerate(names, 1)]
    starts, ends, axes = (a if a is not None else i for a, i in zip(given, inputs[:3], strict=True))
    if starts is None or ends is None:
        raise InputError("starts or ends are missing")
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if inputs[3] is None else inputs[3]
    chosen = [slice(None)] * rank
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        chosen[int(axis)] = slice(int(start), int(end), int(step))
    return context.selected(context.positions()[tuple(chosen)])


def _gather(context: NodeContext) -> Converted:
    indices, axis = context.required(1, "the indices"), context.axis("axis", 0, len(context.shape()))
    return context.selected(np.take(context.positions(), indices.astype(np.int64), axis=axis))


def _concat(context: NodeContext) -> Converted:
    axis = context.axis("axis", 0, len(context.shape()))
    return context.assembled(range(len(context.inputs)), lambda parts: np.concatenate(parts, axis))


#: ONNX's modes of padding as numpy's.
_MODES = {"constant": "constant", "reflect": "reflect", "edge": "edge", "wrap": "wrap"}


def _pad(context: NodeContext) -> Converted:
    """Zeros around an image are an operator of their own; everything else selects entries."""
    mode, shape = context.attribute("mode", b"constant").decode(), context.shape()
    if mode not in _MODES:
        raise InputError(f"mode {mode} is not one of {', '.join(_MODES)}")
    pads = context.attribute("pads")
    pads = [int(p) for p in (pads if pads is not None else context.required(1, "pads"))]
    fill, axes = context.optional(2, "the fill value"), context.optional(3, "axes")
    rank = len(shape)
    if axes is not None:
        spread = [0] * (2 * rank)
        for position, axis in enumerate(int(a) % rank for a in axes):
            spread[axis], spread[rank + axis] = pads[position], pads[len(axes) + position]
        pads = spread
    if len(pads) != 2 * rank:
        raise InputError(f"{len(pads)} pads for a value with {rank} axes")
    value = float(context.attribute("value", 0.0) if fill is None or not fill.size else fill.reshape(()))
    before, after = pads[:rank], pads[rank:]
    if mode == "constant" and not value and min(pads) >= 0 and shape[0] == 1 and not before[0] + after[0]:
        result = (1, *(b + n + a for b, n, a in zip(before[1:], shape[1:], after[1:], strict=True)))
        return Converted(Pad(compact(shape), tuple(before[1:]), tuple(after[1:])), result)
    added = [(max(b, 0), max(a, 0)) for b, a in zip(before, after, strict=True)]
    kept = tuple(slice(max(-b, 0), n - max(-a, 0)) for b, n, a in zip(before, shape, after, strict=True))
    index = context.positions()[kept]
    if not index.size:  # numpy does not pad nothing
        raise InputError("nothing of the value is left")
    outside = {"constant_values": -1} if mode == "constant" else {}
    index = np.pad(index, added, mode=_MODES[mode], **outside)  # type: ignore[call-overload]
    return context.placed(compact(shape), index, np.where(index < 0, value, 0.0))


def _identity(context: NodeContext) -> Converted:
    return Converted(None, context.shape(), context.is_condition())


def _dropout(context: NodeContext) -> Converted:
    training = context.optional(2, "training_mode")
    if training is not None and training.any():
        raise InputError("training_mode is set; networks are read for inference")
    return Converted(None, context.shape())


LAYOUT = {
    "Concat": _concat,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Gather": _gather,
    "Identity": _identity,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
