"""Sums, products, norms over axes, and normalisation by constants."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network.torch.memory import Value
from kreludomain.network.torch.operators.base import Graph, Operand, Writer, axes_of, result_shape
from kreludomain.network.torch.operators.comparison import chosen, is_choice
from kreludomain.network.torch.recorder import Step


def _scaled(graph: Graph, operand: Operand, factor: float) -> str:
    """``factor * operand``."""
    name = graph.operand(operand)
    return name if factor == 1 else graph.add("Mul", name, graph.operand(factor))


def _sum(op_type: str) -> Writer:
    """``self ± alpha * other``."""

    def write(graph: Graph, step: Step) -> str:
        first = graph.operand(step.arguments["self"])
        return graph.add(op_type, first, _scaled(graph, step.arguments["other"], step.arguments.get("alpha", 1)))

    return write


def _reversed_difference(graph: Graph, step: Step) -> str:
    """``other - alpha * self``."""
    first = graph.operand(step.arguments["other"])
    return graph.add("Sub", first, _scaled(graph, step.arguments["self"], step.arguments.get("alpha", 1)))


def _binary(op_type: str, first: str = "self", second: str = "other") -> Writer:
    return lambda graph, step: graph.add(
        op_type, graph.operand(step.arguments[first]), graph.operand(step.arguments[second])
    )


def _product(graph: Graph, step: Step) -> str | Sequence[str]:
    first, second = step.arguments["self"], step.arguments["other"]
    if is_choice(graph, first):
        first, second = second, first
    return chosen(graph, second, first, 0.0) if is_choice(graph, second) else _binary("Mul")(graph, step)


def _quotient(graph: Graph, step: Step) -> str | Sequence[str]:
    if step.arguments.get("rounding_mode") is not None:
        raise InputError("division that rounds is not supported")
    return _binary("Div")(graph, step)


def _power(graph: Graph, step: Step) -> str:
    name, exponent = graph.operand(step.arguments["self"]), step.arguments["exponent"]
    return name if exponent == 1 else graph.add("Pow", name, graph.operand(exponent))


def _added_product(first: str, second: str) -> Writer:
    """``beta * self + alpha * first @ second``: of a layer, ``Gemm`` as torch's exporter has it."""

    def write(graph: Graph, step: Step) -> str:
        bias, x, factor = (step.arguments[name] for name in ("self", first, second))
        alpha, beta = step.arguments["alpha"], step.arguments["beta"]
        layer = isinstance(bias, Tensor) and isinstance(x, Value) and isinstance(factor, Tensor) and factor.dim() == 2
        if layer and alpha == beta == 1 and len(x.shape) == 2:
            names = (graph.operand(operand) for operand in (x, factor.T, bias))
            return graph.add("Gemm", *names, transB=1)
        product = graph.add("MatMul", graph.operand(x), graph.operand(factor))
        product = product if alpha == 1 else graph.add("Mul", product, graph.operand(alpha))
        return product if beta == 0 else graph.add("Add", product, _scaled(graph, bias, beta))

    return write


def _product_and_sum(op_type: str) -> Writer:
    """``self + value * tensor1 (* or /) tensor2``."""

    def write(graph: Graph, step: Step) -> str:
        product = graph.add(op_type, *(graph.operand(step.arguments[name]) for name in ("tensor1", "tensor2")))
        factor = step.arguments["value"]
        product = product if factor == 1 else graph.add("Mul", product, graph.operand(factor))
        return graph.add("Add", graph.operand(step.arguments["self"]), product)

    return write


def _lerp(graph: Graph, step: Step) -> str:
    """``self + weight * (end - self)``."""
    start, end, weight = (graph.operand(step.arguments[name]) for name in ("self", "end", "weight"))
    return graph.add("Add", start, graph.add("Mul", graph.add("Sub", end, start), weight))


def _reduced(graph: Graph, step: Step, name: str, op_type: str, rank: int) -> str:
    axes = graph.integers(axes_of(step, "dim", rank))
    return graph.add(op_type, name, axes, keepdims=int(bool(step.arguments.get("keepdim", False))))


def _reduction(op_type: str) -> Writer:
    """Over the axes ``dim``, all where there is none. Positions of the largest entry are not written."""

    def write(graph: Graph, step: Step) -> str:
        value = step.arguments["self"]
        return _reduced(graph, step, graph.operand(value), op_type, len(value.shape))

    return write


def _mean(graph: Graph, step: Step) -> str:
    value = step.arguments["self"]
    rank = len(value.shape)
    if rank > 2 and step.arguments.get("keepdim") and axes_of(step, "dim", rank) == list(range(2, rank)):
        return graph.add("GlobalAveragePool", graph.operand(value))
    return _reduced(graph, step, graph.operand(value), "ReduceMean", rank)


def _vector_norm(graph: Graph, step: Step) -> str:
    value, order = step.arguments["self"], step.arguments["ord"]
    reductions = {1: "ReduceSum", math.inf: "ReduceMax", -math.inf: "ReduceMin"}
    if order == 2:
        return _reduced(graph, step, graph.operand(value), "ReduceL2", len(value.shape))
    if order not in reductions:
        raise InputError(f"a norm of order {order:g}; 1 and infinity are made of ReLUs")
    return _reduced(graph, step, graph.add("Abs", graph.operand(value)), reductions[order], len(value.shape))


def _cumulative_sum(graph: Graph, step: Step) -> str:
    value = step.arguments["self"]
    return graph.add("CumSum", graph.operand(value), graph.integers(step.arguments["dim"] % len(value.shape)))


def _position(op_type: str) -> Writer:
    """``argmax``, ``argmin``; over all entries where there is no ``dim``."""

    def write(graph: Graph, step: Step) -> str:
        name, axis = graph.operand(step.arguments["self"]), step.arguments.get("dim")
        if axis is None:
            name, axis = graph.shaped(name, (-1,)), 0
        made = graph.add(op_type, name, axis=axis, keepdims=int(bool(step.arguments.get("keepdim", False))))
        return made if step.arguments.get("dim") is not None else graph.shaped(made, result_shape(step))

    return write


def _batch_norm(graph: Graph, step: Step) -> str:
    mean, variance = step.arguments["running_mean"], step.arguments["running_var"]
    if step.arguments.get("training") or mean is None or variance is None:
        raise InputError("batch normalisation without running statistics depends on the batch")
    scale, shift = step.arguments["weight"], step.arguments["bias"]
    scale = torch.ones_like(mean) if scale is None else scale
    shift = torch.zeros_like(mean) if shift is None else shift
    names = [graph.operand(operand) for operand in (step.arguments["input"], scale, shift, mean, variance)]
    return graph.add("BatchNormalization", *names, epsilon=step.arguments["eps"])


ARITHMETIC: dict[str, Writer] = {
    "add": _sum("Add"),
    "sub": _sum("Sub"),
    "rsub": _reversed_difference,
    "mul": _product,
    "div": _quotient,
    "neg": lambda graph, step: graph.add("Neg", graph.operand(step.arguments["self"])),
    "pow": _power,
    "maximum": _binary("Max"),
    "minimum": _binary("Min"),
    "fmax": _binary("Max"),
    "fmin": _binary("Min"),
    "mm": _binary("MatMul", "self", "mat2"),
    "bmm": _binary("MatMul", "self", "mat2"),
    "mv": _binary("MatMul", "self", "vec"),
    "dot": _binary("MatMul", "self", "tensor"),
    "addmm": _added_product("mat1", "mat2"),
    "baddbmm": _added_product("batch1", "batch2"),
    "addmv": _added_product("mat", "vec"),
    "addcmul": _product_and_sum("Mul"),
    "addcdiv": _product_and_sum("Div"),
    "lerp": _lerp,
    "sum": _reduction("ReduceSum"),
    "mean": _mean,
    "amax": _reduction("ReduceMax"),
    "amin": _reduction("ReduceMin"),
    "max": _reduction("ReduceMax"),
    "min": _reduction("ReduceMin"),
    "linalg_vector_norm": _vector_norm,
    "cumsum": _cumulative_sum,
    "argmax": _position("ArgMax"),
    "argmin": _position("ArgMin"),
    "native_batch_norm": _batch_norm,
    "cudnn_batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
}
