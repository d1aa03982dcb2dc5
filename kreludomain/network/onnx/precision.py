"""The floating-point type that a model computes in: files that mix two, and models in float32 instead of double."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from kreludomain.network.onnx.model import OnnxModel, tensors

_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)


def of_one_type(model: OnnxModel) -> OnnxModel:
    """The model in double, if its input or weights are and it mixes that with float32 without a Cast.

    Some exporters declare double inputs and write float32 weights, which onnxruntime refuses to run. The values do not
    change: each float32 number is one in double too.
    """
    proto = model.proto()
    types = {t.data_type for t in tensors(proto.graph)} | {v.type.tensor_type.elem_type for v in proto.graph.input}
    casts = any(node.op_type in ("Cast", "CastLike") or node.domain not in ("", "ai.onnx") for node in proto.graph.node)
    if casts or not set(_FLOATS) <= types:
        return model
    return _retyped(model, TensorProto.FLOAT, TensorProto.DOUBLE)


def in_float32(model: OnnxModel) -> OnnxModel:
    """The model with everything that is double in float32: onnxruntime has no convolution in double, for one."""
    return _retyped(model, TensorProto.DOUBLE, TensorProto.FLOAT)


def _retyped(model: OnnxModel, old: int, new: int) -> OnnxModel:
    proto, kind = model.proto(), np.dtype(onnx.helper.tensor_dtype_to_np_dtype(new))
    for tensor in tensors(proto.graph):
        if tensor.data_type != old:
            continue
        if tensor.name in model.weights:
            tensor.data_type = new
        else:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(kind), tensor.name))
    for value in _values(proto.graph):
        if value.type.tensor_type.elem_type == old:
            value.type.tensor_type.elem_type = new
    for node in proto.graph.node:
        for attribute in node.attribute:
            if (node.op_type, attribute.name) in (("Cast", "to"), ("ConstantOfShape", "dtype")) and attribute.i == old:
                attribute.i = new
    before = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(old))
    weights = {name: value.astype(kind) if value.dtype == before else value for name, value in model.weights.items()}
    return dataclasses.replace(model, graph=proto.SerializeToString(), weights=weights)


def _values(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    yield from graph.input
    yield from graph.output
    yield from graph.value_info
