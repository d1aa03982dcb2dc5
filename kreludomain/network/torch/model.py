"""The record of a module as an ONNX model: one entry of a table for each operation of torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network.onnx.lines import STACK_TRACE
from kreludomain.network.torch.memory import Value
from kreludomain.network.torch.operators import OPERATIONS, unsupported
from kreludomain.network.torch.operators.comparison import is_choice
from kreludomain.network.torch.places import node_name
from kreludomain.network.torch.recorder import Record, Step

#: The version of ONNX's operators, which is torch's exporter's too.
OPSET = 20
#: Words for operations whose names in torch are those of a kernel.
_SPOKEN = {
    "addmm": "linear",
    "mm": "matmul",
    "bmm": "matmul",
    "baddbmm": "matmul",
    "convolution": "conv",
    "max_pool2d_with_indices": "max_pool2d",
    "max_pool3d_with_indices": "max_pool3d",
    "prelu_kernel": "prelu",
    "log_sigmoid_forward": "log_sigmoid",
    "unsafe_view": "view",
}


def to_model(record: Record, output: Value, input_name: str, dtype: torch.dtype) -> bytes:
    """The operations that ``output`` depends on, as a serialised ONNX model in ``dtype``, for a batch of one.

    A node is named by the path of its module, and by the operation where the module has several; the line
    of the user's code is noted as torch's exporter notes it. Raises :class:`InputError` with both for an operation
    that is not supported.
    """
    steps = record.needed(output)
    graph = Graph(dtype)
    graph.names[record.input] = input_name
    for step, name in zip(steps, _names(steps, input_name), strict=True):
        graph.append(step, name)
    if output not in graph.names or is_choice(graph, output):
        raise InputError("the output is how a comparison came out, or the positions of maxima: that jumps")
    result = graph.names[output]
    if result == input_name:
        result = graph.add("Identity", input_name)
    element = helper.np_dtype_to_tensor_dtype(graph.number)
    returned = element if output.dtype.is_floating_point else onnx.TensorProto.INT64
    made = helper.make_graph(
        graph.nodes,
        "torch",
        [helper.make_tensor_value_info(input_name, element, record.input.shape)],
        [helper.make_tensor_value_info(result, returned, output.shape)],
        graph.initializers,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=10)
    data: bytes = model.SerializeToString()
    return data


class Graph:
    """The ONNX graph while it is made. ``names`` are those of the values that are in it, ``made_by`` the steps that
    made them; ``number`` is NumPy's dtype of everything that is not an index."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.number = np.dtype(np.float64 if dtype == torch.float64 else np.float32)
        self.names: dict[Value, str] = {}
        self.made_by: dict[Value, Step] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._prefix = "output"

    def append(self, step: Step, name: str) -> None:
        """Appends the nodes of one operation; the last one gets its name."""
        self._prefix, first = name, len(self.nodes)
        operation = OPERATIONS.get(step.name)
        try:
            if operation is None:
                raise InputError(unsupported(step.name))
            made = operation(self, step)
        except InputError as error:
            raise InputError(step.place.refusal(str(error), name)) from None
        results = [made] if isinstance(made, str) else made
        self.made_by.update((value, step) for value in step.results if value is not None)
        self.names.update(
            (value, name) for value, name in zip(step.results, results, strict=False) if value is not None
        )
        new = self.nodes[first:]
        if isinstance(made, str) and new and new[-1].output[0] == made:
            new[-1].name = new[-1].output[0] = self.names[step.results[0]] = name  # type: ignore[index]
        for node in new:
            if step.place.trace:
                node.metadata_props.add(key=STACK_TRACE, value=step.place.trace)

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Appends a node; returns the name of its value."""
        name = f"{self._prefix}/{op_type.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], name=name, **attributes))
        return name

    def operand(self, argument: Value | Tensor | float) -> str:
        """The name of an argument that is a number or a tensor of numbers."""
        if isinstance(argument, Value):
            if argument not in self.names:
                raise InputError("it takes the positions of maxima: that jumps")
            return self.names[argument]
        if isinstance(argument, Tensor):
            array = argument.detach().to(device="cpu", dtype=torch.float64).numpy()
            return self._constant(array.astype(self.number))
        return self._constant(np.array(argument, self.number))

    def integers(self, numbers: int | Iterable[int] | np.ndarray) -> str:
        """The name of a constant of whole numbers: a shape, axes, positions."""
        array = numbers if isinstance(numbers, int | np.ndarray) else list(numbers)
        return self._constant(np.array(array, np.int64))

    def shaped(self, name: str, shape: Sequence[int]) -> str:
        """A value under another shape."""
        return self.add("Reshape", name, self.integers(shape))

    def _constant(self, array: np.ndarray) -> str:
        name = f"{self._prefix}/constant{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return name


def _names(steps: Sequence[Step], taken: str) -> list[str]:
    """A name for each step: the path of a module that runs no other, for the last of its steps; the path and the
    operation for the others."""
    called = {call for step in steps for call in step.place.calls[:-1]}
    last = {step.place.calls[-1:]: step for step in steps}
    used, names = {taken}, []
    for step in steps:
        path, call = step.place.module, step.place.calls[-1:]
        spoken = re.sub(r"^_+|^native_", "", step.name)
        spoken = re.sub(r"_$", "", _SPOKEN.get(spoken, spoken))
        whole = path and call and call[0] not in called and last[call] is step
        name = path if whole else f"{path}.{spoken}" if path else spoken
        name = stem = node_name(name)
        copies = 0
        while name in used:
            copies += 1
            name = f"{stem}_{copies}"
        used.add(name)
        names.append(name)
    return names
