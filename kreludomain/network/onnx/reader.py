"""ONNX files to networks.

Each operator's reader is an entry of :data:`~kreludomain.network.onnx.operators.READERS`. Everything whose inputs
are constants is folded with ONNX's own reference evaluator, so that a reader only meets values that depend on the
network's input. Values keep their ONNX shapes while they are read; nodes have the same without a leading dimension of
1.
"""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx.reference import ReferenceEvaluator

from kreludomain.errors import InputError
from kreludomain.network.graph import Network, Node, trim
from kreludomain.network.lowering import Decomposition
from kreludomain.network.onnx.operators import READERS, NodeContext, compact, refusal
from kreludomain.network.operators import Input, Operator, Shape

#: The exceptions that arithmetic on a contradictory file raises; all of them become one line that names the node.
_MALFORMED = (InputError, ArithmeticError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
#: The first opset whose arithmetic broadcasts as it does today.
_OLDEST = 7
_RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")


def read_onnx(path: str | Path) -> Network:
    """Reads an ONNX file, or one packed as ``.gz``; weights become float64.

    Raises :class:`InputError` with the file and the node.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path}: cannot be unpacked ({error})") from None
    return parse_onnx(data, str(path))


def parse_onnx(data: bytes, source: str = "ONNX model") -> Network:
    """Reads a serialised ONNX model; ``source`` names it in errors."""
    try:
        model = onnx.load_model_from_string(data)
        elsewhere = [t.name for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
        if elsewhere:
            raise InputError(f"{source}: '{elsewhere[0]}' is in another file; weights are read from the model itself")
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise InputError(f"{source}: not a valid ONNX model ({str(error).splitlines()[0]})") from None
    try:
        return _Reader(model).network(data)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


@dataclass
class _Reader:
    """The graph while it is read: values by their ONNX names, their ONNX shapes, and the nodes that compute them."""

    model: onnx.ModelProto
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    computed_by: dict[str, str] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    def network(self, data: bytes) -> Network:
        graph = self.model.graph
        version = max((o.version for o in self.model.opset_import if o.domain in ("", "ai.onnx")), default=_OLDEST)
        if version < _OLDEST:
            raise InputError(f"opset {version}; from {_OLDEST} on is supported")
        for tensor in graph.initializer:
            self.constants[tensor.name] = onnx.numpy_helper.to_array(tensor)
        inputs = [value for value in graph.input if value.name not in self.constants]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise InputError(f"{len(inputs)} inputs and {len(graph.output)} outputs; one of each is supported")
        shape = _input_shape(inputs[0])
        self._append((Node(inputs[0].name, Input(compact(shape))),), inputs[0].name, shape)
        for node in graph.node:
            try:
                self._read(node)
            except _MALFORMED as error:
                text = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise InputError(f"node '{node.name or node.output[0]}' ({node.op_type}): {text}") from None
        name = graph.output[0].name
        if name not in self.shapes:
            raise InputError(f"output '{name}' does not depend on the input")
        return Network(trim(self.nodes, self.computed_by[name]), data)

    def insert(self, made: Operator | Decomposition, *names: str, shape: Shape | None = None) -> str:
        """Appends an operator with the values ``names`` as its inputs; returns the name of the new value."""
        name = f"{names[0]}:{len(self.nodes)}"
        while name in self._names or name in self._prefixes:
            name += "'"
        nodes = self._nodes(made, name, *names)
        self._append(nodes, name, nodes[-1].shape if shape is None else shape)
        return name

    def _nodes(self, made: Operator | Decomposition, name: str, *names: str) -> tuple[Node, ...]:
        sources = tuple(self.computed_by[n] for n in names)
        if isinstance(made, Operator):
            return (Node(name, made, sources),)
        inner = name  # a decomposition's nodes are called after it, with a slash
        while inner in self._prefixes:
            inner += "'"
        *before, last = made(inner, *sources)
        return (*before, Node(name, last.operator, last.inputs))

    @cached_property
    def _names(self) -> set[str]:
        """The names of the file's values."""
        return {name for node in self.model.graph.node for name in (*node.input, *node.output)}

    @cached_property
    def _prefixes(self) -> set[str]:
        """What stands before a slash in them."""
        return {name[:i] for name in self._names for i, letter in enumerate(name) if letter == "/"}

    def _append(self, nodes: tuple[Node, ...], name: str, shape: Shape) -> None:
        self.nodes += nodes
        self.shapes[name], self.computed_by[name] = shape, nodes[-1].name

    def _read(self, node: onnx.NodeProto) -> None:
        for name in node.input:
            if name and name not in self.constants and name not in self.shapes:
                raise InputError(f"takes '{name}', an output of a node that is not supported")
        if node.domain not in ("", "ai.onnx"):
            raise InputError(f"operator of the domain '{node.domain}' not supported")
        if all(name in self.constants or not name for name in node.input) and node.op_type not in _RANDOM:
            self._fold(node)
            return
        if node.op_type in ("Shape", "Size"):
            limits, shape = {a.name: a.i for a in node.attribute}, self.shapes[node.input[0]]
            known = math.prod(shape) if node.op_type == "Size" else shape[limits.get("start", 0) : limits.get("end")]
            self.constants[node.output[0]] = np.array(known, dtype=np.int64)
            return
        if node.op_type not in READERS:
            raise InputError(refusal(node.op_type))
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        context = NodeContext(node.op_type, list(node.input), attributes, self, len(node.output))
        read = READERS[node.op_type](context)
        values = [n for n in context.inputs if n in self.shapes]
        for name, (made, shape) in zip(node.output, read if isinstance(read, list) else [read], strict=False):
            if made is None:
                self.shapes[name], self.computed_by[name] = shape, self.computed_by[values[0]]
            else:
                self._append(self._nodes(made, name, *values), name, shape)

    def _fold(self, node: onnx.NodeProto) -> None:
        values = {name: self.constants[name] for name in node.input if name}
        evaluator = ReferenceEvaluator(node, opsets={o.domain: o.version for o in self.model.opset_import})
        for name, value in zip(node.output, evaluator.run(None, values), strict=True):
            self.constants[name] = np.asarray(value)


def _input_shape(value: onnx.ValueInfoProto) -> Shape:
    """The input's shape in ONNX; a free dimension in front is a batch of one."""
    tensor = value.type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type)
        raise InputError(f"input '{value.name}': {kind} values; FLOAT is supported")
    dims = [d.dim_value for d in tensor.shape.dim]
    if not dims:
        raise InputError(f"input '{value.name}': has no shape")
    if any(d < 1 for d in dims[1:]):
        raise InputError(f"input '{value.name}': only the first dimension, the batch, may be free")
    return (max(dims[0], 1), *dims[1:])
