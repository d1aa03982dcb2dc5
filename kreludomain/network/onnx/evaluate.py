"""The value of a node whose inputs are constants, by onnxruntime: in every opset, as the network itself is run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from kreludomain.errors import InputError
from kreludomain.network.onnx.model import first_line


def evaluated(node: onnx.NodeProto, inputs: Mapping[str, np.ndarray], model: onnx.ModelProto) -> list[np.ndarray]:
    """The values of a node's outputs; ``model`` says in which opset. Raises :class:`InputError`, one line."""
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in inputs.items()
    ]
    outputs = [name for name in node.output if name]
    graph = helper.make_graph([node], "constant", values, [helper.make_empty_tensor_value_info(n) for n in outputs])
    made = helper.make_model(graph, opset_imports=model.opset_import, ir_version=max(model.ir_version, 3))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
        found = dict(zip(outputs, session.run(outputs, dict(inputs)), strict=True))
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        raise InputError(first_line(error)) from None
    return [np.asarray(found.get(name)) for name in node.output]
