"""Networks to ONNX, one entry of a table per operator: for replay in onnxruntime, and for training scripts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from kreludomain.activations import ActivationFunction, Silu
from kreludomain.network.graph import Network, Node
from kreludomain.network.operators import (
    Activation,
    Concat,
    Convolution,
    Gather,
    Input,
    Linear,
    Operator,
    Pad,
    PairMaximum,
    Permute,
    Reshape,
    Scale,
    Sum,
    TransposedConvolution,
)

#: The opset of a model whose activations need no later one.
OPSET = 17


def to_onnx(network: Network) -> bytes:
    """The network as a serialised float32 ONNX model with a batch dimension of one."""
    writer = _Writer()
    for node in network.nodes:
        WRITERS[type(node.operator)](writer, node, node.operator)
    graph = helper.make_graph(
        writer.nodes,
        "kreludomain",
        [_value_info(network.input)],
        [_value_info(network.output)],
        writer.initializers,
    )
    opsets = [helper.make_opsetid("", writer.opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets))
    onnx.checker.check_model(model)
    result: bytes = model.SerializeToString()
    return result


def _value_info(node: Node) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(node.name, TensorProto.FLOAT, [1, *node.shape])


@dataclass
class _Writer:
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    opset: int = OPSET

    def constant(self, name: str, value: Tensor | np.ndarray) -> str:
        array = value.detach().cpu().numpy().astype(np.float32) if isinstance(value, Tensor) else value
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))


def _linear(writer: _Writer, node: Node, operator: Linear) -> None:
    weight = writer.constant(f"{node.name}.weight", operator.weight.T)
    if operator.bias is None:
        writer.add("MatMul", [node.inputs[0], weight], node.name)
        return
    bias = writer.constant(f"{node.name}.bias", operator.bias)
    if len(operator.in_shape) == 1:
        writer.add("Gemm", [node.inputs[0], weight, bias], node.name)
    else:
        writer.add("MatMul", [node.inputs[0], weight], f"{node.name}/product")
        writer.add("Add", [f"{node.name}/product", bias], node.name)


def _conv(writer: _Writer, node: Node, operator: Convolution) -> None:
    inputs = [node.inputs[0], writer.constant(f"{node.name}.weight", operator.weight)]
    if operator.bias is not None:
        inputs.append(writer.constant(f"{node.name}.bias", operator.bias))
    writer.add(
        "Conv",
        inputs,
        node.name,
        strides=operator.stride,
        pads=(*operator.padding, *operator.padding),
        dilations=operator.dilation,
        group=operator.groups,
    )


def _conv_transpose(writer: _Writer, node: Node, operator: TransposedConvolution) -> None:
    inputs = [node.inputs[0], writer.constant(f"{node.name}.weight", operator.weight)]
    if operator.bias is not None:
        inputs.append(writer.constant(f"{node.name}.bias", operator.bias))
    writer.add(
        "ConvTranspose",
        inputs,
        node.name,
        strides=operator.stride,
        pads=(*operator.padding, *operator.padding),
        output_padding=operator.output_padding,
        dilations=operator.dilation,
        group=operator.groups,
    )


def _scale(writer: _Writer, node: Node, operator: Scale) -> None:
    product = node.name if operator.shift is None else f"{node.name}/product"
    writer.add("Mul", [node.inputs[0], writer.constant(f"{node.name}.multiplier", operator.multiplier)], product)
    if operator.shift is not None:
        writer.add("Add", [product, writer.constant(f"{node.name}.shift", operator.shift)], node.name)


def _sum(writer: _Writer, node: Node, operator: Sum) -> None:
    def partial_names() -> Iterator[str]:
        yield from (f"{node.name}/partial{i}" for i in range(1, len(node.inputs) - 1))
        yield node.name

    total = node.inputs[0]
    if operator.signs[0] != 1:
        writer.add("Neg", [total], f"{node.name}/first")
        total = f"{node.name}/first"
    for source, sign, name in zip(node.inputs[1:], operator.signs[1:], partial_names(), strict=True):
        writer.add("Add" if sign == 1 else "Sub", [total, source], name)
        total = name


def _reshape(writer: _Writer, node: Node, operator: Reshape) -> None:
    shape = writer.constant(f"{node.name}.shape", np.array([1, *operator.shape], dtype=np.int64))
    writer.add("Reshape", [node.inputs[0], shape], node.name)


def _permute(writer: _Writer, node: Node, operator: Permute) -> None:
    writer.add("Transpose", [node.inputs[0]], node.name, perm=(0, *(axis + 1 for axis in operator.order)))


def _pad(writer: _Writer, node: Node, operator: Pad) -> None:
    pads = np.array([0, *operator.before, 0, *operator.after], dtype=np.int64)
    writer.add("Pad", [node.inputs[0], writer.constant(f"{node.name}.pads", pads)], node.name)


def _selection(writer: _Writer, node: Node, operator: Gather) -> None:
    """Entries of the flat input, with a zero behind its end where zeros are asked for."""
    size, index = math.prod(operator.in_shape), operator.index.cpu().numpy()
    flat = f"{node.name}/flat"
    writer.add("Reshape", [node.inputs[0], writer.constant(f"{flat}.shape", np.array([1, size]))], flat)
    if (index < 0).any():
        writer.add("Pad", [flat, writer.constant(f"{flat}.pads", np.array([0, 0, 0, 1]))], f"{flat}/zero")
        flat, index = f"{flat}/zero", np.where(index < 0, size, index)
    writer.add("Gather", [flat, writer.constant(f"{node.name}.index", index)], node.name, axis=1)


def _concat(writer: _Writer, node: Node, operator: Concat) -> None:
    writer.add("Concat", list(node.inputs), node.name, axis=operator.axis + 1)


def _pair_maximum(writer: _Writer, node: Node, operator: PairMaximum) -> None:
    writer.add("Add", list(node.inputs[1:]), node.name)


def _activation(writer: _Writer, node: Node, operator: Activation) -> None:
    function = operator.function
    if type(function) in SPELLED_OUT:
        SPELLED_OUT[type(function)](writer, node)
        return
    writer.add(function.onnx_name, [node.inputs[0]], node.name, **dataclasses.asdict(function))
    writer.opset = max(writer.opset, function.onnx_opset)


def _silu(writer: _Writer, node: Node) -> None:
    writer.add("Sigmoid", [node.inputs[0]], f"{node.name}/sigmoid")
    writer.add("Mul", [node.inputs[0], f"{node.name}/sigmoid"], node.name)


#: Activations that are written with older operators, since their own is too new for most programs.
SPELLED_OUT: dict[type[ActivationFunction], Callable[[_Writer, Node], None]] = {Silu: _silu}


WRITERS: dict[type[Operator], Callable[[_Writer, Node, Any], None]] = {
    Input: lambda writer, node, operator: None,
    Linear: _linear,
    Convolution: _conv,
    TransposedConvolution: _conv_transpose,
    Scale: _scale,
    Sum: _sum,
    Reshape: _reshape,
    Permute: _permute,
    Pad: _pad,
    Gather: _selection,
    Concat: _concat,
    PairMaximum: _pair_maximum,
    Activation: _activation,
}
