"""Products of a value and a constant: Gemm, MatMul and Einsum are contractions of one kind."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network.lowering import chain
from kreludomain.network.onnx.operators.context import Converted, NodeContext, compact, fitted, rearranged, weight
from kreludomain.network.operators import Convolution, Linear, Operator, Scale, Shape, Sum

_ONE = torch.ones((), dtype=torch.float64)
_TWO_VALUES = "a product of two values that depend on the input is not affine; one of them must be a constant"
#: Axes are labelled by numbers, as in Einstein's notation.
Labels = Sequence[int]


def contract(
    context: NodeContext, labels: Labels, factor: Tensor, on: Labels, out: Labels, bias: Tensor | None = None
) -> Converted:
    """The first input, whose ONNX axes have ``labels``, times a constant with the labels ``on``.

    Sums go over the labels that ``out``, the axes of the value, does not have. A ``bias`` goes with a value that has
    one axis longer than 1, the constant's own.
    """
    shape = context.shape()
    labels, on = _broadcast(labels, shape, on, tuple(factor.shape))
    sizes = {**dict(zip(on, factor.shape, strict=True)), **dict(zip(labels, shape, strict=True))}
    factor, on = _summed(factor, on, [label for label in on if label not in labels and label not in out])
    summed = [label for label in labels if label not in out]
    missing = [label for label in summed if label not in on]  # sums of the value alone
    spread = (*factor.shape, *(sizes[label] for label in missing))
    factor = factor[(..., *(None,) * len(missing))].expand(spread)
    on = [*on, *missing]
    common = [label for label in on if label in labels and label in out]
    own = [label for label in on if label not in labels]
    free = [label for label in labels if label in out and label not in on]
    result = tuple(sizes[label] for label in out)

    def size(group: Labels) -> int:
        return math.prod(sizes[label] for label in group)

    steps: list[Operator]
    if not summed and not own:
        aligned = _permuted(factor, on, [label for label in labels if label in on])
        form = tuple(sizes[label] if label in on else 1 for label in labels)
        steps = [Scale(fitted(aligned.reshape(form).numpy(), shape), None, compact(shape))] if on or factor != 1 else []
        order = [labels.index(label) for label in out]
        steps += rearranged(shape, order, compact(result))
        return Converted(chain(*steps) if steps else None, result)
    if not common:
        inner = (*(sizes[label] for label in free if sizes[label] != 1), size(summed))
        matrix = _permuted(factor, on, [*own, *summed]).reshape(size(own), size(summed)).contiguous()
        context.arrange([labels.index(label) for label in (*free, *summed)], inner)
        steps, made = [Linear(matrix, bias, inner)], [*free, *own]
    else:  # one matrix for each place along the common axes: groups of a convolution
        inner = (size(common) * size(summed), size(free))
        matrices = _permuted(factor, on, [*common, *own, *summed]).reshape(size(common) * size(own), size(summed), 1)
        context.arrange([labels.index(label) for label in (*common, *summed, *free)], inner)
        steps = [Convolution(matrices.contiguous(), None, inner, (1,), (0,), (1,), size(common))]
        made = [*common, *own, *free]
    axes, order = tuple(sizes[label] for label in made), [made.index(label) for label in out]
    steps += rearranged(axes, order, compact(result), steps[0].out_shape)
    return Converted(chain(*steps), result)


def _broadcast(labels: Labels, shape: Shape, on: Labels, constant: Shape) -> tuple[list[int], list[int]]:
    """Labels of their own for axes of one entry that the other operand has more of."""
    sizes, others = dict(zip(on, constant, strict=True)), dict(zip(labels, shape, strict=True))
    fresh = itertools.count(1 + max([*labels, *on], default=0))
    differing = {label for label in others if label in sizes and others[label] != sizes[label]}
    if any(1 not in (others[label], sizes[label]) for label in differing):
        raise InputError(f"a constant of shape {constant} does not fit a value of shape {shape}")
    return (
        [next(fresh) if label in differing and others[label] == 1 else label for label in labels],
        [next(fresh) if label in differing and sizes[label] == 1 else label for label in on],
    )


def _summed(factor: Tensor, on: Labels, gone: Labels) -> tuple[Tensor, list[int]]:
    axes = [on.index(label) for label in gone]
    return (factor.sum(axes) if axes else factor), [label for label in on if label not in gone]


def _permuted(factor: Tensor, on: Labels, order: Labels) -> Tensor:
    return factor.permute(*(on.index(label) for label in order)) if order else factor


def _gemm(context: NodeContext) -> Converted:
    """``alpha A B + beta C`` where only one of ``A`` and ``B`` depends on the input."""
    row, inner, column = 0, 1, 2
    labels = [
        [inner, row] if context.attribute("transA", 0) else [row, inner],
        [column, inner] if context.attribute("transB", 0) else [inner, column],
    ]
    value = 0 if context.constant(1) is not None else 1
    constant, added = context.constant(1 - value), context.inputs[2] if len(context.inputs) > 2 else ""
    if constant is None:
        raise InputError(_TWO_VALUES)
    if len(context.shape(value)) != 2 or constant.ndim != 2:
        raise InputError(f"factors of shapes {context.shape(0)} and {context.shape(1)}; both have two axes")
    bias, beta = context.constant(2), context.attribute("beta", 1.0)
    context.inputs[:] = [context.inputs[value]]
    factor = weight(constant) * context.attribute("alpha", 1.0)
    rows = context.shape()[labels[0].index(row)] if value == 0 else constant.shape[labels[0].index(row)]
    columns = constant.shape[labels[1].index(column)] if value == 0 else context.shape()[labels[1].index(column)]
    shape: Shape = (rows, columns)
    with_bias: Tensor | None = None
    if bias is not None:
        try:
            with_bias = beta * weight(np.broadcast_to(bias, shape))
        except ValueError:
            raise InputError(f"a bias of shape {bias.shape} does not fit a value of shape {shape}") from None
    single = with_bias[0] if with_bias is not None and rows == 1 and value == 0 else None
    product = contract(context, labels[value], factor, labels[1 - value], [row, column], single)
    if not added or single is not None:
        return product
    context.replace(product)
    if with_bias is not None:
        return Converted(Scale(_ONE, fitted(with_bias.numpy(), shape), compact(shape)), shape)
    context.inputs.append(added)
    context.broadcast(1, shape)
    if beta != 1:
        context.insert_before(Scale(beta * _ONE, None, compact(shape)), 1)
    return Converted(Sum((1, 1), compact(shape)), shape)


def _matmul(context: NodeContext) -> Converted:
    """A product with a constant on either side; of each pair of matrices where there are several."""
    ranks = [len(context.shape(i)) for i in (0, 1)]
    if min(ranks) < 1:
        raise InputError("a factor has no axes")
    row, inner, column, batch = 0, 1, 2, max(0, *(rank - 2 for rank in ranks))
    before = list(range(3, 3 + batch))
    labels = [
        [inner] if ranks[0] == 1 else [*before[batch - ranks[0] + 2 :], row, inner],
        [inner] if ranks[1] == 1 else [*before[batch - ranks[1] + 2 :], inner, column],
    ]
    out = [*before, *([row] if ranks[0] > 1 else []), *([column] if ranks[1] > 1 else [])]
    value = 0 if context.constant(1) is not None else 1
    constant = context.constant(1 - value)
    if constant is None:
        raise InputError(_TWO_VALUES)
    context.inputs[:] = [context.inputs[value]]
    return contract(context, labels[value], weight(constant), labels[1 - value], out)


def _einsum(context: NodeContext) -> Converted:
    operands, out = _equation(
        context.attribute("equation").decode(), [len(context.shape(i)) for i in range(len(context.inputs))]
    )
    dependent = context.dependent
    if len(dependent) > 1:
        raise InputError(_TWO_VALUES)
    value = dependent[0]
    constants: list[np.ndarray | list[int]] = []
    for i, labels in enumerate(operands):
        constant = context.constant(i)
        if constant is not None:
            constants += [constant.astype(np.float64), labels]
    on = sorted({x for i, part in enumerate(operands) if i != value for x in part} & {*operands[value], *out})
    factor = np.einsum(*constants, on) if constants else np.ones(())
    context.inputs[:] = [context.inputs[value]]
    labels = list(dict.fromkeys(operands[value]))
    if len(labels) != len(operands[value]):  # a diagonal
        chosen = context.selected(np.einsum(context.positions(), operands[value], labels))
        context.replace(chosen)
    return contract(context, labels, weight(factor), on, out)


def _equation(equation: str, ranks: list[int]) -> tuple[list[list[int]], list[int]]:
    """The labels of each operand and of the result; ``...`` stands for the last numbers, aligned at its end."""
    given, arrow, result = equation.replace(" ", "").partition("->")
    letters = sorted({*given} - {*",."})
    number = {letter: i for i, letter in enumerate(letters)}
    parts = given.split(",")
    if len(parts) != len(ranks):
        raise InputError(f"equation '{equation}' for {len(ranks)} operands")
    widths = [rank - len(part.replace("...", "")) for part, rank in zip(parts, ranks, strict=True)]
    dots = list(range(len(letters), len(letters) + max(0, *widths)))
    if not arrow:
        once = "".join(letter for letter in letters if given.count(letter) == 1)
        result = ("..." if "..." in given else "") + once

    def labels(part: str, width: int) -> list[int]:
        before, ellipsis, after = part.partition("...")
        if width != 0 and not ellipsis:
            raise InputError(f"equation '{equation}' does not fit operands with {ranks} axes")
        inner = dots[len(dots) - width :] if ellipsis else []
        return [*(number[x] for x in before), *inner, *(number[x] for x in after)]

    operands = [labels(part, width) for part, width in zip(parts, widths, strict=True)]
    return operands, labels(result, len(dots) if "..." in result else 0)


PRODUCTS: dict[str, Callable[[NodeContext], Converted]] = {"Einsum": _einsum, "Gemm": _gemm, "MatMul": _matmul}
