"""ONNX files to networks.

One entry of ``READERS`` an ONNX operator: it takes the node as the file has it and returns our operator with the
names of its inputs. Everything whose inputs are constants is folded with ONNX's own reference evaluator, so that an
entry only meets values that depend on the network's input. ONNX shapes have a batch dimension of one in front; ours
have none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network.graph import Network, Node, trim
from kreludomain.network.operators import (
    Conv2d,
    Input,
    Linear,
    Operator,
    Pad,
    Permute,
    Relu,
    Reshape,
    Scale,
    Shape,
    Sum,
    average_pool,
)
from kreludomain.network.operators.convolution import Pair

#: What arithmetic on a file's contents raises where they contradict each other.
_MALFORMED = (InputError, ArithmeticError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


def read_onnx(path: str | Path) -> Network:
    """Reads an ONNX file; weights become float64. Raises :class:`InputError` with the file and the node."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return parse_onnx(path.read_bytes(), str(path))


def parse_onnx(data: bytes, source: str = "ONNX model") -> Network:
    """Reads a serialised ONNX model; ``source`` names it in errors."""
    try:
        model = onnx.load_model_from_string(data)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise InputError(f"{source}: not a valid ONNX model ({str(error).splitlines()[0]})") from None
    try:
        return _Reader(model).network(data)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


@dataclass
class _Call:
    """One ONNX node while it is read."""

    op_type: str
    inputs: list[str]
    attributes: dict[str, Any]
    reader: _Reader

    def constant(self, position: int) -> np.ndarray | None:
        """Input ``position`` if it is there and a constant; else ``None``."""
        name = self.inputs[position] if position < len(self.inputs) else ""
        return self.reader.constants.get(name)

    def optional(self, position: int, what: str) -> np.ndarray | None:
        """Input ``position``, a constant, or ``None`` where the node does not have it."""
        present = position < len(self.inputs) and self.inputs[position] != ""
        return self.required(position, what) if present else None

    def required(self, position: int, what: str) -> np.ndarray:
        value = self.constant(position)
        if value is None:
            raise InputError(f"{what} must be a constant")
        return value

    def shape(self, position: int = 0) -> Shape:
        return self.reader.shapes[self.inputs[position]]

    def is_constant(self, position: int) -> bool:
        return self.constant(position) is not None

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)


@dataclass
class _Reader:
    model: onnx.ModelProto
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    def network(self, data: bytes) -> Network:
        graph = self.model.graph
        self.constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        inputs = [value for value in graph.input if value.name not in self.constants]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise InputError(f"{len(inputs)} inputs and {len(graph.output)} outputs; one of each is supported")
        self._append(inputs[0].name, Input(_without_batch(inputs[0])), ())
        for node in graph.node:
            try:
                self._read(node)
            except _MALFORMED as error:
                text = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise InputError(f"node '{node.name or node.output[0]}' ({node.op_type}): {text}") from None
        output = self._resolve(graph.output[0].name)
        if output not in self.shapes:
            raise InputError(f"output '{output}' does not depend on the input")
        return Network(trim(self.nodes, output), data)

    def _resolve(self, name: str) -> str:
        return self.aliases.get(name, name)

    def _append(self, name: str, operator: Operator, inputs: tuple[str, ...]) -> None:
        self.nodes.append(Node(name, operator, inputs))
        self.shapes[name] = operator.out_shape

    def _read(self, node: onnx.NodeProto) -> None:
        inputs = [self._resolve(name) for name in node.input]
        if all(name in self.constants or not name for name in inputs):
            self._fold(node)
            return
        if node.op_type == "Shape":
            limits = {a.name: a.i for a in node.attribute}
            shape = [1, *self.shapes[inputs[0]]][limits.get("start", 0) : limits.get("end")]
            self.constants[node.output[0]] = np.array(shape, dtype=np.int64)
            return
        if node.op_type not in READERS:
            raise InputError(f"operator not supported; supported are {', '.join(sorted(READERS))}")
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        call = _Call(node.op_type, inputs, attributes, self)
        operator = READERS[node.op_type](call)
        sources = tuple(name for name in call.inputs if name in self.shapes)
        if operator is None:
            self.aliases[node.output[0]] = sources[0]
        else:
            self._append(node.output[0], operator, sources)

    def _fold(self, node: onnx.NodeProto) -> None:
        values = {name: self.constants[self._resolve(name)] for name in node.input if name}
        evaluator = ReferenceEvaluator(node, opsets={o.domain: o.version for o in self.model.opset_import})
        for name, value in zip(node.output, evaluator.run(None, values), strict=True):
            self.constants[name] = np.asarray(value)


def _without_batch(value: onnx.ValueInfoProto) -> Shape:
    dims = value.type.tensor_type.shape.dim
    if len(dims) < 2 or dims[0].dim_value > 1:
        raise InputError(f"input '{value.name}': a batch dimension of one (or a free one) is expected in front")
    if any(d.dim_value < 1 for d in dims[1:]):
        raise InputError(f"input '{value.name}': only the batch dimension may be free")
    return tuple(d.dim_value for d in dims[1:])


def _tensor(value: np.ndarray | None) -> Tensor | None:
    return None if value is None else torch.from_numpy(np.array(value, dtype=np.float64))


def _weight(value: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(value, dtype=np.float64))


def _gemm(call: _Call) -> Operator:
    if call.attribute("transA", 0) or len(call.shape()) != 1:
        raise InputError("only A of shape (1, n), not transposed, is supported")
    weight = _weight(call.required(1, "B")) * call.attribute("alpha", 1.0)
    weight = (weight if call.attribute("transB", 0) else weight.T).contiguous()
    bias = _tensor(call.optional(2, "C"))
    if bias is not None:
        bias = (bias * call.attribute("beta", 1.0)).reshape(-1)
        bias = bias.expand(len(weight)) if len(bias) == 1 else bias
    return Linear(weight, bias, call.shape())


def _matmul(call: _Call) -> Operator:
    return Linear(_weight(call.required(1, "the second factor")).T.contiguous(), None, call.shape())


def _fit(constant: np.ndarray, in_shape: Shape) -> Tensor:
    """A constant operand without its batch dimension; it must not change the other operand's shape."""
    value = _weight(constant)
    if value.dim() == len(in_shape) + 1 and value.shape[0] == 1:
        value = value[0]
    try:
        fits = torch.broadcast_shapes(value.shape, in_shape) == torch.Size(in_shape)
    except RuntimeError:
        fits = False
    if not fits:
        raise InputError(f"a constant of shape {tuple(value.shape)} does not fit an input of shape {in_shape}")
    return value


def _sum(call: _Call, sign: int) -> Operator:
    """``a + sign * b``."""
    if call.is_constant(1):
        return Scale(
            torch.ones((), dtype=torch.float64), sign * _fit(call.required(1, ""), call.shape(0)), call.shape(0)
        )
    if call.is_constant(0):
        multiplier = torch.tensor(float(sign), dtype=torch.float64)
        return Scale(multiplier, _fit(call.required(0, ""), call.shape(1)), call.shape(1))
    if call.shape(0) != call.shape(1):
        raise InputError(f"operands of shapes {call.shape(0)} and {call.shape(1)}; equal shapes are supported")
    return Sum((1, sign), call.shape(0))


def _mul(call: _Call) -> Operator:
    for position in (0, 1):
        if call.is_constant(position):
            other = call.shape(1 - position)
            return Scale(_fit(call.required(position, ""), other), None, other)
    raise InputError("a product of two values that depend on the input is not affine")


def _div(call: _Call) -> Operator:
    return Scale(1.0 / _fit(call.required(1, "the divisor"), call.shape()), None, call.shape())


def _spatial(call: _Call, kernel: Pair) -> tuple[Pair, Pair, tuple[int, int, int, int]]:
    """Strides, dilations and pads (top, left, bottom, right) of a convolution or pooling node."""
    if len(call.shape()) != 3:
        raise InputError(f"an input of shape {call.shape()}; only images (channels, height, width) are supported")
    strides = tuple(call.attribute("strides", (1, 1)))
    dilations = tuple(call.attribute("dilations", (1, 1)))
    automatic = call.attribute("auto_pad", b"NOTSET")
    if automatic in (b"SAME_UPPER", b"SAME_LOWER"):
        total = [
            max(0, (-(-size // s) - 1) * s + d * (k - 1) + 1 - size)
            for size, s, d, k in zip(call.shape()[1:], strides, dilations, kernel, strict=True)
        ]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        begin, end = (small, large) if automatic == b"SAME_UPPER" else (large, small)
        return strides, dilations, (begin[0], begin[1], end[0], end[1])
    return strides, dilations, tuple(call.attribute("pads", (0, 0, 0, 0)))


def _pad_before(call: _Call, pads: tuple[int, int, int, int]) -> tuple[Shape, Pair]:
    """Symmetric padding is the operator's own; any other becomes a :class:`Pad` node in front of it."""
    top, left, bottom, right = pads
    if (top, left) == (bottom, right):
        return call.shape(), (top, left)
    pad = Pad(call.shape(), (0, top, left), (0, bottom, right))
    name = f"{call.inputs[0]}/pad{len(call.reader.nodes)}"
    call.reader._append(name, pad, (call.inputs[0],))
    call.inputs[0] = name
    return pad.out_shape, (0, 0)


def _conv(call: _Call) -> Operator:
    weight, bias = _weight(call.required(1, "W")), _tensor(call.optional(2, "B"))
    if weight.dim() != 4:
        raise InputError(f"a kernel of shape {tuple(weight.shape)}; only two spatial dimensions are supported")
    strides, dilations, pads = _spatial(call, (weight.shape[2], weight.shape[3]))
    in_shape, padding = _pad_before(call, pads)
    groups = call.attribute("group", 1)
    return Conv2d(weight, bias, in_shape, strides, padding, dilations, groups)


def _average_pool(call: _Call) -> Operator:
    kernel = tuple(call.attribute("kernel_shape"))
    strides, dilations, pads = _spatial(call, kernel)
    if dilations != (1, 1) or call.attribute("ceil_mode", 0):
        raise InputError("dilations and ceil_mode are not supported")
    if any(pads) and not call.attribute("count_include_pad", 0):
        raise InputError("padding that is not counted in the average (count_include_pad=0) is not supported")
    in_shape, padding = _pad_before(call, pads)
    return average_pool(in_shape, kernel, strides, padding)


def _global_average_pool(call: _Call) -> Operator:
    shape = call.shape()
    return average_pool(shape, (shape[1], shape[2]), (1, 1), (0, 0))


def _batch_normalization(call: _Call) -> Operator:
    if call.attribute("training_mode", 0):
        raise InputError("training_mode=1 is not supported")
    names = ("scale", "B", "mean", "var")
    scale, bias, mean, variance = (_weight(call.required(i + 1, name)) for i, name in enumerate(names))
    multiplier = scale / torch.sqrt(variance + call.attribute("epsilon", 1e-5))
    return channel_scale(multiplier, bias - mean * multiplier, call.shape())


def channel_scale(multiplier: Tensor, shift: Tensor, in_shape: Shape) -> Scale:
    """A factor and a constant a channel (the first axis), as batch normalisation has them."""
    form = (-1,) + (1,) * (len(in_shape) - 1)
    return Scale(multiplier.reshape(form), shift.reshape(form), in_shape)


def _reshape_to(call: _Call, target: list[int]) -> Operator:
    """``target`` is an ONNX shape with batch, where one entry may be -1."""
    size = int(np.prod(call.shape()))
    if -1 in target:
        known = int(np.prod([t for t in target if t != -1]))
        target = [size // max(known, 1) if t == -1 else t for t in target]
    if len(target) < 2 or target[0] != 1 or int(np.prod(target)) != size:
        raise InputError(f"cannot reshape (1, {', '.join(map(str, call.shape()))}) to {tuple(target)}")
    return Reshape(call.shape(), tuple(target[1:]))


def _reshape(call: _Call) -> Operator:
    target = [int(t) for t in call.required(1, "the shape")]
    if not call.attribute("allowzero", 0):
        current = (1, *call.shape())
        target = [current[i] if t == 0 and i < len(current) else t for i, t in enumerate(target)]
    return _reshape_to(call, target)


def _flatten(call: _Call) -> Operator:
    if call.attribute("axis", 1) not in (1, -len(call.shape())):
        raise InputError(f"axis {call.attribute('axis')}; only 1 is supported")
    return Reshape(call.shape(), (int(np.prod(call.shape())),))


def _axes(call: _Call) -> list[int]:
    axes = call.attribute("axes")
    return [int(a) for a in (axes if axes is not None else call.required(1, "axes"))]


def _squeeze(call: _Call) -> Operator:
    current = [1, *call.shape()]
    axes = {a % len(current) for a in _axes(call)}
    return _reshape_to(call, [size for i, size in enumerate(current) if i not in axes])


def _unsqueeze(call: _Call) -> Operator:
    axes, current = _axes(call), [1, *call.shape()]
    rank = len(current) + len(axes)
    added, rest = {a % rank for a in axes}, iter(current)
    return _reshape_to(call, [1 if i in added else next(rest) for i in range(rank)])


def _transpose(call: _Call) -> Operator:
    order = call.attribute("perm", tuple(reversed(range(len(call.shape()) + 1))))
    if order[0] != 0:
        raise InputError(f"perm {tuple(order)} moves the batch dimension")
    return Permute(call.shape(), tuple(axis - 1 for axis in order[1:]))


def _pad(call: _Call) -> Operator:
    if call.attribute("mode", b"constant") != b"constant":
        raise InputError(f"mode {call.attribute('mode').decode()}; only constant is supported")
    pads = call.attribute("pads")
    pads = [int(p) for p in (pads if pads is not None else call.required(1, "pads"))]
    fill, axes = call.optional(2, "the fill value"), call.optional(3, "axes")
    rank = len(call.shape()) + 1
    if axes is not None:
        spread = [0] * (2 * rank)
        for position, axis in enumerate(int(a) % rank for a in axes):
            spread[axis], spread[rank + axis] = pads[position], pads[len(axes) + position]
        pads = spread
    if call.attribute("value", 0.0) or (fill is not None and fill.any()) or len(pads) != 2 * rank:
        raise InputError("only padding with zeros is supported")
    if pads[0] or pads[rank] or min(pads) < 0:
        raise InputError("padding of the batch dimension and cropping are not supported")
    return Pad(call.shape(), tuple(pads[1:rank]), tuple(pads[rank + 1 :]))


def _identity(call: _Call) -> None:
    return None


READERS: dict[str, Callable[[_Call], Operator | None]] = {
    "Add": lambda call: _sum(call, 1),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalization,
    "Conv": _conv,
    "Div": _div,
    "Dropout": _identity,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "Identity": _identity,
    "MatMul": _matmul,
    "Mul": _mul,
    "Neg": lambda call: Scale(torch.tensor(-1.0, dtype=torch.float64), None, call.shape()),
    "Pad": _pad,
    "Relu": lambda call: Relu(call.shape()),
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Sub": lambda call: _sum(call, -1),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
