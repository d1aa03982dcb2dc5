"""Operators of the domain ``ai.onnx.ml``, as scikit-learn's exporter (skl2onnx) writes them, in standard operators.

What has no standard form here is left as it is, and refused by name where it is met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from kreludomain.errors import InputError

DOMAIN = "ai.onnx.ml"

_Nodes = Iterator[onnx.NodeProto]


def in_standard_operators(graph: onnx.GraphProto) -> None:
    """Replaces the nodes of ``ai.onnx.ml`` in place; the new ones have the same names and outputs.

    Raises :class:`InputError` with the node's name for attributes that contradict each other.
    """
    made: list[onnx.NodeProto] = []
    for node in graph.node:
        convert = _CONVERSIONS.get(node.op_type) if node.domain == DOMAIN else None
        if convert is None:
            made.append(node)
            continue
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        try:
            found = list(convert(node, attributes))
        except (KeyError, IndexError, ValueError, InputError) as error:
            why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise InputError(f"node '{node.name or node.output[0]}' ({node.op_type}): {why}") from None
        for new in found:
            new.name = node.name
        made += found
    del graph.node[:]
    graph.node.extend(made)


def _constant(node: onnx.NodeProto, kind: str, value: Any) -> tuple[onnx.NodeProto, str]:
    name = f"{node.output[0]}/{kind}"
    array = np.asarray(value)
    tensor = numpy_helper.from_array(array.astype(np.float32) if array.dtype.kind == "f" else array, name)
    return helper.make_node("Constant", [], [name], value=tensor), name


def _scaler(node: onnx.NodeProto, attributes: dict[str, Any]) -> _Nodes:
    """``(x - offset) * scale``."""
    offset, offset_name = _constant(node, "offset", attributes["offset"])
    scale, scale_name = _constant(node, "scale", attributes["scale"])
    shifted = f"{node.output[0]}/shifted"
    yield from (offset, scale)
    yield helper.make_node("Sub", [node.input[0], offset_name], [shifted])
    yield helper.make_node("Mul", [shifted, scale_name], list(node.output))


def _linear(node: onnx.NodeProto, attributes: dict[str, Any], rows: int, output: str) -> _Nodes:
    factor = np.asarray(attributes["coefficients"], np.float32).reshape(rows, -1)
    weight, weight_name = _constant(node, "coefficients", factor)
    bias, bias_name = _constant(node, "intercepts", np.asarray(attributes.get("intercepts", [0.0] * rows), np.float32))
    yield from (weight, bias)
    yield helper.make_node("Gemm", [node.input[0], weight_name, bias_name], [output], transB=1)


def _regressor(node: onnx.NodeProto, attributes: dict[str, Any]) -> _Nodes:
    if attributes.get("post_transform", b"NONE") != b"NONE":
        raise InputError(f"post_transform {attributes['post_transform'].decode()}; NONE is supported")
    yield from _linear(node, attributes, int(attributes.get("targets", 1)), node.output[0])


#: What a LinearClassifier can do to its scores.
_TRANSFORMS: dict[bytes, tuple[str, dict[str, Any]] | None] = {
    b"NONE": None,
    b"LOGISTIC": ("Sigmoid", {}),
    b"SOFTMAX": ("Softmax", {"axis": 1}),
}


def _classifier(node: onnx.NodeProto, attributes: dict[str, Any]) -> _Nodes:
    """The label is the class of the largest score."""
    classes = len(attributes.get("classlabels_ints") or attributes.get("classlabels_strings") or ())
    if len(attributes["coefficients"]) % max(classes, 1) or len(attributes.get("intercepts", ())) not in (0, classes):
        raise InputError(f"the coefficients are not those of {classes} classes")
    given = attributes.get("post_transform", b"NONE")
    if given not in _TRANSFORMS:
        raise InputError(f"post_transform {given.decode()}; {', '.join(k.decode() for k in _TRANSFORMS)} are supported")
    transform, label = _TRANSFORMS[given], node.output[0]
    scores = node.output[1] if len(node.output) > 1 and node.output[1] else f"{label}/scores"
    raw = scores if transform is None else f"{scores}/raw"
    yield from _linear(node, attributes, classes, raw)
    if transform is not None:
        yield helper.make_node(transform[0], [raw], [scores], **transform[1])
    if label:
        yield helper.make_node("ArgMax", [scores], [label], axis=1, keepdims=0)


def _imputer(node: onnx.NodeProto, attributes: dict[str, Any]) -> _Nodes:
    """Only replaces what is missing (NaN), and regions have no such inputs."""
    if not np.isnan(attributes.get("replaced_value_float", np.nan)):
        raise InputError(f"replaces {attributes['replaced_value_float']:g}, which is not affine; NaN is supported")
    yield helper.make_node("Identity", list(node.input), list(node.output))


def _extractor(node: onnx.NodeProto, attributes: dict[str, Any]) -> _Nodes:
    """Columns by their numbers."""
    flat, minus_one = f"{node.output[0]}/columns", _constant(node, "shape", np.array([-1]))
    yield minus_one[0]
    yield helper.make_node("Reshape", [node.input[1], minus_one[1]], [flat])
    yield helper.make_node("Gather", [node.input[0], flat], list(node.output), axis=-1)


def _vectorizer(node: onnx.NodeProto, attributes: dict[str, Any]) -> _Nodes:
    yield helper.make_node("Concat", list(node.input), list(node.output), axis=1)


_CONVERSIONS: dict[str, Callable[[onnx.NodeProto, dict[str, Any]], _Nodes]] = {
    "ArrayFeatureExtractor": _extractor,
    "FeatureVectorizer": _vectorizer,
    "Imputer": _imputer,
    "LinearClassifier": _classifier,
    "LinearRegressor": _regressor,
    "Scaler": _scaler,
}
