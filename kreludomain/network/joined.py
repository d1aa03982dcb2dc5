"""A network whose output is its input and its output, one after the other: for claims that relate the two."""

from __future__ import annotations

import dataclasses

from onnx import helper

from kreludomain.errors import InputError
from kreludomain.network.graph import Network, Node
from kreludomain.network.onnx.model import OnnxModel
from kreludomain.network.operators import Operator, Pad, Reshape, Sum


def with_input(network: Network) -> Network:
    """The network ``x -> (x, f(x))``, both flattened: ``(n + m,)`` entries for ``n`` inputs and ``m`` outputs.

    Its ONNX model, if there is one, is the network's own with the same concatenation appended, so that counterexamples
    are still replayed on the model that was read. Raises :class:`InputError` for a network that is read up to its
    logits: claims are about what comes after them.
    """
    if network.head is not None:
        raise InputError(f"inputs and outputs cannot be compared: {network.head.note}")
    inputs, outputs = (network.size(node.name) for node in (network.input, network.output))
    nodes = list(network.nodes)
    taken = {node.name for node in nodes}

    def add(name: str, operator: Operator, *sources: str) -> str:
        while name in taken:
            name += "'"
        taken.add(name)
        nodes.append(Node(name, operator, sources))
        return name

    flat_input = add("flat input", Reshape(network.input.shape, (inputs,)), network.input.name)
    flat_output = add("flat output", Reshape(network.output.shape, (outputs,)), network.output.name)
    first = add("input, then zeros", Pad((inputs,), (0,), (outputs,)), flat_input)
    last = add("zeros, then output", Pad((outputs,), (inputs,), (0,)), flat_output)
    add("input and output", Sum((1, 1), (inputs + outputs,)), first, last)
    model = None if network.model is None else _joined_model(network.model)
    return dataclasses.replace(network, nodes=tuple(nodes), model=model)


def _joined_model(model: OnnxModel) -> OnnxModel:
    """An ONNX model with its input and its output flattened and put one after the other as its only output."""
    made = model.proto()
    graph = made.graph
    constants = {tensor.name for tensor in graph.initializer}
    source = next(value for value in graph.input if value.name not in constants)
    result = graph.output[0].name
    name = "kreludomain.joined"
    for value in (source.name, result):
        graph.node.append(helper.make_node("Flatten", [value], [f"{name}.{value}"], axis=1))
    # a double input may have float outputs
    kind = source.type.tensor_type.elem_type
    graph.node.append(helper.make_node("Cast", [f"{name}.{result}"], [f"{name}.cast"], to=kind))
    graph.node.append(helper.make_node("Concat", [f"{name}.{source.name}", f"{name}.cast"], [name], axis=1))
    del graph.output[:]
    graph.output.append(helper.make_empty_tensor_value_info(name))
    return dataclasses.replace(model, graph=made.SerializeToString())
