"""Operations that only move entries about."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network.torch.memory import Value
from kreludomain.network.torch.operators.base import Graph, Writer, result_shape
from kreludomain.network.torch.operators.comparison import chosen, is_choice
from kreludomain.network.torch.recorder import Step


def _same(graph: Graph, step: Step) -> str:
    """The value itself: copies, and casts between kinds of floating-point numbers."""
    source, result = step.arguments["self"], step.results[0]
    if is_choice(graph, source):  # 0 and 1 are not written otherwise than false and true
        return graph.operand(source)
    kinds = {value.dtype for value in (source, result) if isinstance(value, Value)}
    if len(kinds) > 1 and not (all(kind.is_floating_point for kind in kinds) and _fine(result)):
        raise InputError(f"a cast to {str(result.dtype).removeprefix('torch.') if result else ''} rounds")
    return graph.operand(source)


def _fine(value: Value | None) -> bool:
    """Whether a value has numbers of at least float32."""
    return value is not None and torch.finfo(value.dtype).bits >= 32


def _reshaped(graph: Graph, step: Step) -> str:
    return graph.shaped(graph.operand(step.arguments["self"]), result_shape(step))


def _permuted(graph: Graph, step: Step) -> str:
    value = step.arguments["self"]
    order = list(range(len(value.shape)))
    if "dims" in step.arguments:
        order = [axis % len(order) for axis in step.arguments["dims"]]
    elif len(order) > 1:  # t() of a matrix, transpose of two axes
        first, second = step.arguments.get("dim0", 0), step.arguments.get("dim1", 1)
        order[first], order[second] = order[second], order[first]
    return graph.add("Transpose", graph.operand(value), perm=order)


def _slice(graph: Graph, step: Step) -> str:
    value = step.arguments["self"]
    axis = step.arguments["dim"] % len(value.shape)
    start, end, stride = slice(*(step.arguments[name] for name in ("start", "end", "step"))).indices(value.shape[axis])
    names = [graph.integers([number]) for number in (start, end, axis, stride)]
    return graph.add("Slice", graph.operand(value), *names)


def _select(graph: Graph, step: Step) -> str:
    value = step.arguments["self"]
    axis = step.arguments["dim"] % len(value.shape)
    position = graph.integers(step.arguments["index"] % value.shape[axis])
    return graph.add("Gather", graph.operand(value), position, axis=axis)


def _parts(graph: Graph, step: Step) -> list[str]:
    """Consecutive parts along an axis: ``split``, ``chunk``, ``split_with_sizes``."""
    value = step.arguments["self"]
    axis, start, made = step.arguments["dim"] % len(value.shape), 0, []
    for position in range(len(step.results)):
        end = start + result_shape(step, position)[axis]
        made.append(graph.add("Slice", graph.operand(value), *(graph.integers([n]) for n in (start, end, axis))))
        start = end
    return made


def _unbind(graph: Graph, step: Step) -> list[str]:
    value = step.arguments["self"]
    axis = step.arguments["dim"] % len(value.shape)
    return [graph.add("Gather", graph.operand(value), graph.integers(i), axis=axis) for i in range(len(step.results))]


def _joined(graph: Graph, step: Step) -> str:
    parts = [p for p in step.arguments["tensors"] if tuple(p.shape) != (0,)]  # torch lets an empty one pass
    return graph.add("Concat", *map(graph.operand, parts), axis=step.arguments["dim"] % len(parts[0].shape))


def _stacked(graph: Graph, step: Step) -> str:
    rank = len(result_shape(step))
    axis = step.arguments["dim"] % rank
    parts = [graph.add("Unsqueeze", graph.operand(p), graph.integers([axis])) for p in step.arguments["tensors"]]
    return graph.add("Concat", *parts, axis=axis)


def _padded(graph: Graph, step: Step) -> str:
    """torch counts pads from the last axis."""
    value, given = step.arguments["self"], list(step.arguments["pad"])
    rank = len(value.shape)
    before, after = [0] * rank, [0] * rank
    for position in range(len(given) // 2):
        before[rank - 1 - position], after[rank - 1 - position] = given[2 * position : 2 * position + 2]
    names = [graph.operand(value), graph.integers([*before, *after])]
    if step.arguments.get("value"):
        names.append(graph.operand(step.arguments["value"]))
    return graph.add("Pad", *names)


def _masked(graph: Graph, step: Step) -> str:
    """Entries on or below a diagonal, or above it: zeros elsewhere."""
    value = step.arguments["self"]
    mask = step.operation(torch.ones(value.shape, dtype=torch.float64), step.arguments["diagonal"])
    return graph.add("Mul", graph.operand(value), graph.operand(mask))


def _filled(graph: Graph, step: Step) -> str:
    """``self`` with a constant in the entries of a mask that does not depend on the input."""
    value, mask, filling = (step.arguments[name] for name in ("self", "mask", "value"))
    if is_choice(graph, mask):
        return chosen(graph, mask, filling, value)
    if isinstance(mask, Value):
        raise InputError("a mask that depends on the input is not supported")
    kept = graph.operand(value)
    if isinstance(value, Value):
        kept = graph.add("Mul", kept, graph.operand((~mask).double()))
    placed = mask.double()
    if not isinstance(filling, Value):
        placed = torch.where(mask, torch.as_tensor(filling, dtype=torch.float64), placed)
    added = graph.operand(placed)
    if isinstance(filling, Value):
        added = graph.add("Mul", graph.operand(filling), added)
    return graph.add("Add", kept, added)


def _where(graph: Graph, step: Step) -> str | list[str]:
    condition, one, other = (step.arguments[name] for name in ("condition", "self", "other"))
    return chosen(graph, condition, one, other) if is_choice(graph, condition) else moved(graph, step)


def _written(graph: Graph, step: Step) -> str | list[str]:
    """``self`` with other numbers at some positions, or with one where a comparison holds."""
    places, number = step.arguments["indices"], step.arguments["values"]
    by_entry = len(places) == 1 and is_choice(graph, places[0]) and places[0].shape == step.arguments["self"].shape
    if by_entry and isinstance(number, Tensor) and number.numel() == 1 and not step.arguments["accumulate"]:
        return chosen(graph, places[0], number, step.arguments["self"])
    return moved(graph, step)


def moved(graph: Graph, step: Step) -> str | list[str]:
    """Any operation that only moves entries: it moves their positions in the same way, and says so where they go.

    All numbers are numbered, those of constants too, the operation is applied to the numbering, and what comes out is
    which entries ``Gather`` has to take from all of them, flat and one behind the other; 0 is a zero.
    """
    if step.arguments.get("accumulate") or (step.name == "scatter" and "src" not in step.arguments):
        raise InputError("writing numbers into the places of others, or adding to them, is not supported")
    sources: list[Value | Tensor] = []
    count = 0

    def numbered(argument: Any) -> Any:
        nonlocal count
        if isinstance(argument, list | tuple):
            return [numbered(item) for item in argument]
        if isinstance(argument, Value) and not argument.dtype.is_floating_point:
            raise InputError("positions or a mask that depend on the input are not supported")
        if not isinstance(argument, Value | Tensor) or not argument.dtype.is_floating_point:
            return argument.cpu() if isinstance(argument, Tensor) else argument
        size = torch.Size(argument.shape).numel()
        sources.append(argument)
        count += size
        return torch.arange(count - size + 1, count + 1, dtype=torch.float64).view(argument.shape)

    arguments = {name: numbered(argument) for name, argument in step.arguments.items()}
    made = step.operation(**arguments)
    names = [graph.operand(source) for source in sources]
    results = [
        _taken(graph, sources, names, tensor.numpy().astype(np.int64))
        for tensor in (made if isinstance(made, list | tuple) else (made,))
    ]
    return results if isinstance(made, list | tuple) else results[0]


def _taken(graph: Graph, sources: list[Value | Tensor], names: list[str], index: np.ndarray) -> str:
    flat = [graph.shaped(name, (-1,)) for name in names]
    if len(sources) == 1 and index.size == index.max(initial=0) and (np.diff(index.ravel()) == 1).all():
        return graph.shaped(names[0], index.shape)
    if not index.all():
        flat.insert(0, graph.operand(torch.zeros(1, dtype=torch.float32)))
    else:
        index = index - 1
    source = flat[0] if len(flat) == 1 else graph.add("Concat", *flat, axis=0)
    return graph.add("Gather", source, graph.integers(index), axis=0)


#: Of numbers that are finite, and in evaluation.
_SAME = (
    "alias",
    "nan_to_num",
    "clone",
    "contiguous",
    "detach",
    "lift_fresh",
    "_to_copy",
    "positive",
    "lift",
    "dropout",
)
_RESHAPED = (
    "view",
    "_unsafe_view",
    "_reshape_alias",
    "reshape",
    "flatten",
    "squeeze",
    "unsqueeze",
    "squeeze_",
    "unsqueeze_",
)
_MOVED = (
    "as_strided",
    "as_strided_",
    "block_diag",
    "channel_shuffle",
    "native_channel_shuffle",
    "copy",
    "diagonal",
    "diagonal_scatter",
    "expand",
    "flip",
    "gather",
    "im2col",
    "index",
    "index_copy",
    "index_select",
    "masked_scatter",
    "pixel_shuffle",
    "pixel_unshuffle",
    "put",
    "reflection_pad1d",
    "reflection_pad2d",
    "reflection_pad3d",
    "repeat",
    "replication_pad1d",
    "replication_pad2d",
    "replication_pad3d",
    "roll",
    "rot90",
    "scatter",
    "select_scatter",
    "slice_scatter",
    "take",
    "unfold",
)

LAYOUT: dict[str, Writer] = {
    **dict.fromkeys(_SAME, _same),
    **dict.fromkeys(_RESHAPED, _reshaped),
    **dict.fromkeys(_MOVED, moved),
    **dict.fromkeys(("permute", "t", "t_", "transpose", "transpose_"), _permuted),
    **dict.fromkeys(("split", "split_with_sizes"), _parts),
    **dict.fromkeys(("tril", "triu"), _masked),
    "cat": _joined,
    "constant_pad_nd": _padded,
    "index_put": _written,
    "masked_fill": _filled,
    "select": _select,
    "slice": _slice,
    "stack": _stacked,
    "unbind": _unbind,
    "where": _where,
}
