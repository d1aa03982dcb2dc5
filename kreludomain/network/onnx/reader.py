"""ONNX files to networks.

Each operator's reader is an entry of :data:`~kreludomain.network.onnx.operators.READERS`. Everything whose inputs are
constants is evaluated by onnxruntime, so that a reader only meets values that depend on the network's input. Values
keep their ONNX shapes while they are read; nodes have the same without a leading dimension of 1.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnx.version_converter
from onnx import TensorProto

from kreludomain.errors import InputError
from kreludomain.network.graph import Network, Node, trim
from kreludomain.network.head import Head
from kreludomain.network.lowering import Decomposition
from kreludomain.network.onnx.batch import fixed_batch, take_one_row
from kreludomain.network.onnx.evaluate import evaluated
from kreludomain.network.onnx.lines import line_of
from kreludomain.network.onnx.model import MALFORMED, OnnxModel, first_line, named, pass_on, read_model
from kreludomain.network.onnx.operators import READERS, TAKE_CONDITIONS, NodeContext, compact, refusal
from kreludomain.network.onnx.outputs import Ending, cut_to, described, find_ending, group_numbers
from kreludomain.network.onnx.precision import of_one_type
from kreludomain.network.onnx.sklearn import in_standard_operators
from kreludomain.network.onnxruntime import check_against_runtime
from kreludomain.network.operators import Input, Operator, Shape
from kreludomain.network.parallel import joined_branches

#: The first opset whose arithmetic broadcasts as it does today; older models are converted to it.
_OLDEST = 7
_RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")


def read_onnx(path: str | Path, output: str | None = None) -> Network:
    """Reads an ONNX file, or one packed with gzip, with its weights in files beside it; they become float64.

    ``output`` is the name of the output that is meant, where there are several. Raises :class:`InputError` with the
    file and the node.
    """
    return parse_onnx(read_model(path), str(path), output)


def parse_onnx(model: bytes | OnnxModel, source: str = "ONNX model", output: str | None = None) -> Network:
    """Reads an ONNX model, serialised or with weights outside of it; ``source`` names it in errors."""
    given = model if isinstance(model, OnnxModel) else OnnxModel(model)
    with named(source):
        return _parsed(given, output)


def _parsed(model: OnnxModel, output: str | None) -> Network:
    model = of_one_type(_up_to_date(model))
    standard = model.proto()
    in_standard_operators(standard.graph)
    ending = find_ending(standard, output)
    model = _cut(model, ending)
    standard = model.proto()
    pass_on(standard.graph, ending.passed)
    in_standard_operators(standard.graph)
    cut_to(standard.graph, ending.value)
    rows = fixed_batch(standard.graph)
    if rows > 1:
        one = onnx.ModelProto()
        one.CopyFrom(standard)
        take_one_row(one.graph, rows)
        try:
            network = _Reader(one, model.weights).network(model, ending)
            check_against_runtime(network, "")
        except InputError:  # rows that depend on each other, or the first axis is no batch
            return _Reader(standard, model.weights).network(model, ending)
        return network
    return _Reader(standard, model.weights).network(model, ending)


def _up_to_date(model: OnnxModel) -> OnnxModel:
    """The model, checked, without functions of its own, in an opset whose arithmetic is today's."""
    proto = model.proto()
    _check(proto, model)
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
        model = dataclasses.replace(model, graph=proto.SerializeToString())
    version = _opset(proto)
    if version >= _OLDEST:
        return model
    try:
        proto = onnx.version_converter.convert_version(proto, _OLDEST)
        _check(proto, model)
    except Exception as error:  # of its own, and of C++
        raise InputError(
            f"opset {version}, and ONNX's converter cannot bring it to {_OLDEST} ({first_line(error)})"
        ) from None
    return dataclasses.replace(model, graph=proto.SerializeToString())


def _opset(proto: onnx.ModelProto) -> int:
    return max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=_OLDEST)


def _check(proto: onnx.ModelProto, model: OnnxModel) -> None:
    """ONNX's own check, with the weights outside of the model as inputs, for it would look for their files."""
    if model.weights:
        checked = onnx.ModelProto()
        checked.CopyFrom(proto)
        declared = {value.name for value in checked.graph.input}
        for tensor in [t for t in checked.graph.initializer if t.name in model.weights]:
            checked.graph.initializer.remove(tensor)
            if tensor.name not in declared:
                shape = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
                checked.graph.input.append(shape)
        proto = checked
    try:
        onnx.checker.check_model(proto)
    except Exception as error:  # of its own, and of C++
        raise InputError(f"not a valid ONNX model ({first_line(error)})") from None


def _cut(model: OnnxModel, ending: Ending) -> OnnxModel:
    """The model up to its ending; the same bytes where that is the whole of it."""
    proto = model.proto()
    before = len(proto.graph.node), len(proto.graph.input), [value.name for value in proto.graph.output]
    cut_to(proto.graph, ending.value)
    after = len(proto.graph.node), len(proto.graph.input), [value.name for value in proto.graph.output]
    if before == after:
        return dataclasses.replace(model, passed=ending.passed)
    left = {tensor.name for tensor in proto.graph.initializer}
    weights = {name: value for name, value in model.weights.items() if name in left}
    return OnnxModel(proto.SerializeToString(), weights, ending.passed)


@dataclass
class _Reader:
    """The graph while it is read: values by their ONNX names, their ONNX shapes, and the nodes that compute them."""

    model: onnx.ModelProto
    weights: Mapping[str, np.ndarray]
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    computed_by: dict[str, str] = field(default_factory=dict)
    conditions: set[str] = field(default_factory=set)
    nodes_by_name: dict[str, Node] = field(default_factory=dict)

    def network(self, given: OnnxModel, ending: Ending) -> Network:
        graph = self.model.graph
        self._take_constants()
        inputs = [value for value in graph.input if value.name not in self.constants]
        if len(inputs) > 1:
            listed = ", ".join(map(described, inputs))
            raise InputError(f"takes {len(inputs)} inputs, {listed}; networks of one input are supported")
        if not inputs:
            raise InputError(f"output '{ending.value}' does not depend on an input")
        shape = _input_shape(inputs[0])
        self._append((Node(inputs[0].name, Input(compact(shape))),), inputs[0].name, shape)
        for node in graph.node:
            try:
                self._read(node)
            except MALFORMED as error:
                text = first_line(error)
                where = ", ".join(part for part in (node.op_type, line_of(node)) if part)
                raise InputError(f"node '{node.name or node.output[0]}' ({where}): {text}") from None
        if ending.value not in self.shapes:
            raise InputError(f"output '{ending.value}' does not depend on the input")
        if ending.value in self.conditions:
            raise InputError(f"output '{ending.value}' is a condition on the input, which jumps where it changes")
        nodes = trim(self.nodes_by_name.values(), self.computed_by[ending.value])
        return joined_branches(Network(nodes, given, self._head(ending)))

    def _take_constants(self) -> None:
        """Initializers, wherever their values are."""
        self.constants |= self.weights
        for tensor in self.model.graph.initializer:
            if tensor.name not in self.weights:
                try:
                    self.constants[tensor.name] = onnx.numpy_helper.to_array(tensor)
                except MALFORMED as error:
                    raise InputError(f"weights '{tensor.name}': {first_line(error)}") from None
        for sparse in self.model.graph.sparse_initializer:
            self.constants[sparse.values.name] = _dense(sparse)

    def _head(self, ending: Ending) -> Head | None:
        if ending.kind is None:
            return None
        try:
            groups = [
                group_numbers(self.shapes[part.over[0]], *part.over[1:])
                for part in (ending, ending.inner)
                if part is not None
            ]
        except InputError as error:
            raise InputError(f"node '{ending.node}' ({ending.kind}): {error}") from None
        if any(group != groups[0] for group in groups) or len(groups[0]) != int(np.prod(self.shapes[ending.value])):
            raise InputError(f"node '{ending.node}' ({ending.kind}): goes along another axis than what is before it")
        return Head(ending.kind, ending.node, groups[0])

    def insert(self, made: Operator | Decomposition, *names: str, shape: Shape | None = None) -> str:
        """Appends an operator with the values ``names`` as its inputs; returns the name of the new value."""
        name = f"{names[0]}:{len(self.nodes_by_name)}"
        while name in self._names or name in self._prefixes:
            name += "'"
        nodes = self._nodes(made, name, *names)
        self._append(nodes, name, nodes[-1].shape if shape is None else shape)
        return name

    def value_of(self, node: str, shape: Shape) -> str:
        """A name for the value of a node, under an ONNX shape."""

        def other(name: str) -> bool:
            return (self.computed_by.get(name, node), self.shapes.get(name, shape)) != (node, shape)

        name = node
        while other(name) or name in self.constants:
            name += "'"
        self.shapes[name], self.computed_by[name] = shape, node
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
        for node in nodes:
            if node.name in self.nodes_by_name:
                raise InputError(f"there are two nodes '{node.name}'")
            self.nodes_by_name[node.name] = node
        self.shapes[name], self.computed_by[name] = shape, nodes[-1].name

    def _read(self, node: onnx.NodeProto) -> None:
        for name in node.input:
            if name and name not in self.constants and name not in self.shapes:
                raise InputError(f"takes '{name}', an output of a node that is not supported")
        if node.domain not in ("", "ai.onnx"):
            raise InputError(f"operator of the domain '{node.domain}' not supported")
        if node.op_type == "If" and node.input[0] in self.constants:
            self._take_branch(node)
            return
        if all(name in self.constants or not name for name in node.input) and node.op_type not in _RANDOM:
            self._fold(node)
            return
        if node.op_type in ("Shape", "Size"):
            limits, shape = {a.name: a.i for a in node.attribute}, self.shapes[node.input[0]]
            known = math.prod(shape) if node.op_type == "Size" else shape[limits.get("start", 0) : limits.get("end")]
            self.constants[node.output[0]] = np.array(known, dtype=np.int64)
            return
        for position, name in enumerate(node.input):
            if name in self.conditions and position not in TAKE_CONDITIONS.get(node.op_type, ()):
                raise InputError(f"takes '{name}', a condition on the input, as a number that jumps where it changes")
        if node.op_type not in READERS:
            raise InputError(refusal(node.op_type))
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        context = NodeContext(node.op_type, list(node.input), attributes, self, len(node.output))
        read = READERS[node.op_type](context)
        values = [n for n in context.inputs if n in self.shapes]
        for name, converted in zip(node.output, read if isinstance(read, list) else [read], strict=False):
            if converted.condition:
                self.conditions.add(name)
            if converted.made is None:
                self.shapes[name], self.computed_by[name] = converted.shape, self.computed_by[values[0]]
            else:
                self._append(self._nodes(converted.made, name, *values), name, converted.shape)

    def _take_branch(self, node: onnx.NodeProto) -> None:
        """An If whose condition is a constant (about a shape, mostly) is the nodes of one branch."""
        taken = "then_branch" if self.constants[node.input[0]].item() else "else_branch"
        branch = next(a.g for a in node.attribute if a.name == taken)
        for tensor in branch.initializer:
            self.constants[tensor.name] = onnx.numpy_helper.to_array(tensor)
        for inner in branch.node:
            self._read(inner)
        for name, value in zip(node.output, branch.output, strict=True):
            if value.name in self.constants:
                self.constants[name] = self.constants[value.name]
            else:
                self.shapes[name], self.computed_by[name] = self.shapes[value.name], self.computed_by[value.name]
            if value.name in self.conditions:
                self.conditions.add(name)

    def _fold(self, node: onnx.NodeProto) -> None:
        values = {name: self.constants[name] for name in node.input if name}
        for name, value in zip(node.output, evaluated(node, values, self.model), strict=True):
            if name:
                self.constants[name] = value


def _input_shape(value: onnx.ValueInfoProto) -> Shape:
    """The input's shape in ONNX; a free dimension in front is a batch of one."""
    tensor = value.type.tensor_type
    if tensor.elem_type not in (TensorProto.FLOAT, TensorProto.DOUBLE):
        kind = TensorProto.DataType.Name(tensor.elem_type)
        raise InputError(
            f"input '{value.name}': {kind} values; FLOAT and DOUBLE are supported, so convert the network to float32, "
            "with inputs that are cast before they are given to it"
        )
    dims = list(tensor.shape.dim)
    if not dims:
        raise InputError(f"input {described(value)}: has no shape")
    if any(isinstance(d.dim_param, bytes) for d in dims):
        raise InputError(f"input '{value.name}': the name of a dimension is no text")
    sizes = [d.dim_value for d in dims]
    if any(size < 1 for size in sizes[1:]):
        raise InputError(
            f"input {described(value)}: only the first dimension, the batch, may be free; export the network with the "
            "other sizes fixed"
        )
    return (max(sizes[0], 1), *sizes[1:])


def _dense(sparse: onnx.SparseTensorProto) -> np.ndarray:
    """A sparse initializer with its zeros; indices are flat positions, or one column an axis."""
    values, indices = (onnx.numpy_helper.to_array(part) for part in (sparse.values, sparse.indices))
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    at = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), dense.shape)
    dense.reshape(-1)[at] = values
    return dense
