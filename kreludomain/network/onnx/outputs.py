"""Which value of an ONNX graph is the network's output: the one that is asked for, before its Softmax or ArgMax.

scikit-learn's classifiers have two outputs, a label and scores; the scores are what is certified. A last Softmax,
LogSoftmax or ArgMax changes nothing about which output is the largest, and is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from kreludomain.errors import InputError
from kreludomain.network.head import HeadKind
from kreludomain.network.onnx.sklearn import DOMAIN

FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
#: Operators that keep entries as they are, in their order.
_KEEPING = ("Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
#: Operators that keep some of the entries of their first input.
_CHOOSING = ("Gather", "Slice", "Split")


@dataclass(frozen=True)
class Ending:
    """Where a network ends. ``value`` is its output in the file, its nodes in ``passed`` left out (see
    :attr:`~kreludomain.network.onnx.model.OnnxModel.passed`).

    ``kind`` and ``node`` are those of the head, where there is one; ``over``: the value it is of, the axis that it
    goes along, and whether along all later ones too (as before opset 13). ``inner`` is the head before it, of an
    ArgMax.
    """

    value: str
    passed: tuple[str, ...] = ()
    kind: HeadKind | None = None
    node: str = ""
    over: tuple[str, int, bool] = ("", -1, False)
    inner: Ending | None = None


def described(value: onnx.ValueInfoProto) -> str:
    """A value's name, shape and type: ``logits (batch, 10) FLOAT``."""
    if value.type.WhichOneof("value") != "tensor_type":
        return f"'{value.name}'"
    tensor = value.type.tensor_type
    dims = [d.dim_param or (str(d.dim_value) if d.HasField("dim_value") else "?") for d in tensor.shape.dim]
    kind = "" if tensor.elem_type in (0, TensorProto.FLOAT) else f" {TensorProto.DataType.Name(tensor.elem_type)}"
    return f"'{value.name}' ({', '.join(dims)}){kind}"


def find_ending(model: onnx.ModelProto, output: str | None) -> Ending:
    """The ending for the output of a name, or the only one that can be meant; the model is in standard operators.

    Raises :class:`InputError` that lists the outputs.
    """
    graph = _Graph(model.graph)
    outputs = {value.name: value for value in model.graph.output}
    if output is not None and output not in outputs:
        raise InputError(f"has no output '{output}'; it has {_listed(outputs.values())}")
    chosen = output if output is not None else _only_output(model, graph)
    value, argmax = graph.before_zip_map(chosen), graph.argmax_before(chosen)
    if argmax is not None:
        value = argmax.input[0]
    elif chosen in outputs and not _is_float(outputs[chosen]):
        raise InputError(f"output {described(outputs[chosen])}: FLOAT or DOUBLE values are what can be certified")
    version = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    ending = graph.normalised(value, version)
    if argmax is None:
        return ending
    axis = int(_attribute(argmax, "axis", 0))  # type: ignore[call-overload]
    inner = ending if ending.kind else None
    return Ending(value, ending.passed, "ArgMax", argmax.name or argmax.output[0], (value, axis, False), inner)


def cut_to(graph: onnx.GraphProto, value: str) -> None:
    """Makes a value the only output of a graph, in place, and removes what it does not depend on."""
    needed, kept = {value}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(_taken(node))
    if len(kept) < len(graph.node):
        del graph.node[:]
        graph.node.extend(reversed(kept))
    for values in (graph.input, graph.initializer, graph.value_info):
        unused = [item for item in values if item.name not in needed]
        for item in unused:
            values.remove(item)
    if [item.name for item in graph.output] != [value]:
        declared = [item for item in graph.output if item.name == value]
        made = declared[0] if declared else helper.make_empty_tensor_value_info(value)
        del graph.output[:]
        graph.output.append(made)


def _taken(node: onnx.NodeProto) -> set[str]:
    """Every value that a node takes, in its subgraphs too."""
    taken = set(node.input)
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            taken.update(name for item in inner.node for name in _taken(item))
            taken.update(item.name for item in inner.output)
    return taken


def _listed(values: Iterable[onnx.ValueInfoProto]) -> str:
    return ", ".join(described(value) for value in values)


def _is_float(value: onnx.ValueInfoProto) -> bool:
    """Whether a value has floating-point numbers, as far as the file says; scores of ZipMap are a sequence of maps."""
    kind = value.type.WhichOneof("value")
    return kind in (None, "sequence_type") or (
        kind == "tensor_type" and value.type.tensor_type.elem_type in (0, *FLOATS)
    )


def _only_output(model: onnx.ModelProto, graph: _Graph) -> str:
    """The output that is meant where none is named: the only one, or the only one of scores."""
    outputs = list(model.graph.output)
    scores = outputs if len(outputs) == 1 else [value for value in outputs if _is_float(value)]
    if len(scores) == 1:
        return str(scores[0].name)
    if any(opset.domain == DOMAIN for opset in model.opset_import):
        whole = {graph.source_of_column(value.name) for value in scores}
        if len(whole) == 1 and (name := whole.pop()):
            return name  # every class's score is an output of its own
    if not outputs:
        raise InputError("has no outputs")
    raise InputError(
        f"has {len(outputs)} outputs, {_listed(outputs)}; say which one is meant "
        f"(output='{scores[0].name if scores else outputs[0].name}'; in YAML network: {{file: ..., output: ...}})"
    )


def _attribute(node: onnx.NodeProto, name: str, default: object) -> object:
    found = [helper.get_attribute_value(a) for a in node.attribute if a.name == name]
    return found[0] if found else default


@dataclass
class _Graph:
    """A graph, to be followed from its outputs back."""

    graph: onnx.GraphProto
    producers: Mapping[str, onnx.NodeProto] = field(init=False)
    constants: Mapping[str, np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        self.producers = {name: node for node in self.graph.node for name in node.output if name}
        small = (t for t in self.graph.initializer if t.data_location == TensorProto.DEFAULT and len(t.dims) < 2)
        self.constants = {t.name: numpy_helper.to_array(t) for t in small}
        self.constants |= {
            node.output[0]: numpy_helper.to_array(a.t)
            for node in self.graph.node
            if node.op_type == "Constant"
            for a in node.attribute
            if a.name == "value"
        }

    def keeps(self, node: onnx.NodeProto) -> bool:
        """Whether a node's value has the entries of its first input."""
        to_float = node.op_type == "Cast" and _attribute(node, "to", 0) in FLOATS
        return node.op_type in _KEEPING or to_float

    def before_zip_map(self, value: str) -> str:
        """The scores that ZipMap puts under the names of their classes, where a value is that."""
        node = self.producers.get(value)
        return node.input[0] if node is not None and node.op_type == "ZipMap" and node.domain == DOMAIN else value

    def argmax_before(self, value: str) -> onnx.NodeProto | None:
        """The ArgMax whose result, or whose class's name, a value is."""
        while (node := self.producers.get(value)) is not None:
            if node.op_type == "ArgMax":
                return node
            if node.op_type in (*_KEEPING, "Cast", "LabelEncoder"):
                value = node.input[0]
            elif node.op_type == "Gather" and node.input[0] in self.constants:  # the classes' names
                value = node.input[1]
            else:
                return None
        return None

    def normalised(self, end: str, opset: int) -> Ending:
        """The ending at a value, before the Softmax or the like that it comes from, if it comes from one."""
        value, passed = end, list[str]()
        while (node := self.producers.get(value)) is not None:
            name = node.name or node.output[0]
            if node.op_type in ("Softmax", "LogSoftmax") and node.domain in ("", "ai.onnx"):
                axis = int(_attribute(node, "axis", -1 if opset >= 13 else 1))  # type: ignore[call-overload]
                kind: HeadKind = "Softmax" if node.op_type == "Softmax" else "LogSoftmax"
                return Ending(end, (*passed, node.output[0]), kind, name, (node.output[0], axis, opset < 13))
            if self.keeps(node):
                value = node.input[0]
            elif self.divides_by_sum(node):
                if not self.is_softmax(node.input[0]):
                    return Ending(end, (node.output[0],), "normalised", name, (node.output[0], -1, False))
                passed, value = [*passed, node.output[0]], node.input[0]
            else:
                break
        return Ending(end)

    def divides_by_sum(self, node: onnx.NodeProto) -> bool:
        """Whether a node divides positive entries by their sum along the last of two axes."""
        if node.op_type == "Normalizer" and node.domain == DOMAIN:
            return _attribute(node, "norm", b"MAX") == b"L1" and self.is_positive(node.input[0])
        if node.op_type != "Div":
            return False
        total = self.producers.get(node.input[1])
        if total is None or total.op_type != "ReduceSum":
            return False
        absolute = self.producers.get(total.input[0])
        summed = absolute.input[0] if absolute is not None and absolute.op_type == "Abs" else total.input[0]
        if summed != node.input[0]:
            return False
        axes = _attribute(total, "axes", None)
        if axes is None and len(total.input) > 1:
            axes = self.constants.get(total.input[1])
        along_last = axes is not None and np.asarray(axes).ravel().tolist() in ([1], [-1])
        return along_last and bool(_attribute(total, "keepdims", 1)) and self.is_positive(node.input[0])

    def is_softmax(self, value: str) -> bool:
        """Whether a value comes from a Softmax."""
        node = self.producers.get(value)
        return node is not None and (node.op_type == "Softmax" or (self.keeps(node) and self.is_softmax(node.input[0])))

    def is_positive(self, value: str) -> bool:
        """Whether all entries of a value are sigmoids or the like."""
        node = self.producers.get(value)
        if node is None:
            return False
        if node.op_type in ("Sigmoid", "Softmax"):
            return True
        if node.op_type == "Concat":
            return all(self.is_positive(name) for name in node.input)
        return (self.keeps(node) or node.op_type in _CHOOSING) and self.is_positive(node.input[0])

    def source_of_column(self, value: str) -> str | None:
        """The value that another one is a column of."""
        found = False
        while (node := self.producers.get(value)) is not None and (self.keeps(node) or node.op_type in _CHOOSING):
            found = found or node.op_type in _CHOOSING
            value = node.input[0]
        return value if found else None


def group_numbers(shape: tuple[int, ...], axis: int, and_later: bool) -> tuple[int, ...]:
    """For each entry of a value the number of the group that it is normalised with: those along an axis, or along it
    and all later ones.

    Raises :class:`InputError` for groups of one entry.
    """
    rank = len(shape)
    if not -rank <= axis < rank:
        raise InputError(f"axis {axis} of a value with {rank} axes")
    along = range(axis % rank, rank if and_later else axis % rank + 1)
    if math.prod(shape[i] for i in along) == 1:
        raise InputError(
            "is over an axis of one entry, so that its output is always the same; a network with one output ends in a "
            "sigmoid"
        )
    rest = [1 if i in along else n for i, n in enumerate(shape)]
    numbers = np.broadcast_to(np.arange(math.prod(rest)).reshape(rest), shape)
    return tuple(numbers.ravel().tolist())
