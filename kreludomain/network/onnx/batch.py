"""Graphs that fix a batch of several inputs: read as one input."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

#: Operators whose second input is a shape.
_SHAPED = ("Reshape", "Expand")


def fixed_batch(graph: onnx.GraphProto) -> int:
    """How many inputs the graph takes at a time: its input's first dimension of several, if the output has it too."""
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        return 1
    given, made = _dims(inputs[0]), _dims(graph.output[0])
    rows = given[0] if len(given) > 1 else 1
    return rows if rows > 1 and (not made or made[0] == rows) else 1


def take_one_row(graph: onnx.GraphProto, rows: int) -> None:
    """Makes a graph for a batch of ``rows`` one for a batch of one, in place: its input, and the shapes in it.

    Whether the rows were independent, as those of a batch are, is for the caller to check.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    for value in graph.input:
        if value.name not in constants:
            value.type.tensor_type.shape.dim[0].dim_value = 1
    for node in graph.node:
        if node.op_type not in _SHAPED or len(node.input) < 2:
            continue
        name = node.input[1]
        tensors = [constants[name]] if name in constants else _tensors(made_by.get(name))
        for tensor in tensors:
            shape = numpy_helper.to_array(tensor).copy()
            if shape.ndim == 1 and shape.size and shape[0] == rows:
                shape[0] = 1
                tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(shape), tensor.name))


def _tensors(node: onnx.NodeProto | None) -> list[onnx.TensorProto]:
    return [a.t for a in node.attribute if a.name == "value"] if node is not None and node.op_type == "Constant" else []


def _dims(value: onnx.ValueInfoProto) -> list[int]:
    return [d.dim_value for d in value.type.tensor_type.shape.dim]
