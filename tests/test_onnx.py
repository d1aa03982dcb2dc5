"""ONNX files as they come: every operator in every form, against onnxruntime; and what is refused."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from networks import inputs
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from kreludomain.activations import ACTIVATIONS
from kreludomain.errors import InputError
from kreludomain.network import Runtime, check_against_runtime, load, parse_onnx, read_onnx
from kreludomain.network.onnx.operators import READERS
from kreludomain.network.onnx.operators.context import Converted
from kreludomain.network.operators import Input, Linear

BENCHMARKS = Path(__file__).resolve().parents[2] / "shared" / "benchmarks"


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def model(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, Any] | None = None,
    shape: Sequence[int | str] = (1, 2, 4, 5),
    opset: int = 17,
    names: Sequence[str] = ("x",),
) -> bytes:
    """A model of one input ``x`` and the output ``y``, float32."""
    arrays = {name: np.asarray(value) for name, value in (constants or {}).items()}
    arrays = {n: a.astype(np.float32) if a.dtype.kind == "f" else a for n, a in arrays.items()}
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in names],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    made = onnx.shape_inference.infer_shapes(made)
    if not made.graph.output[0].type.WhichOneof("value"):  # broken models: any type makes them pass ONNX's own check
        made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1]))
    return bytes(made.SerializeToString())


def op(kind: str, *sources: str, output: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, list(sources), [output], name=f"my_{kind.lower()}", **attributes)


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape)


NORM = {"s": values(2), "b": values(2), "m": values(2), "v": values(2) ** 2}
PADS = np.array([0, 0, 1, 2, 0, 1, 0, 3])
CASES: list[tuple[str, bytes]] = [
    *((name, model([op(name, "x")], opset=max(17, kind.onnx_opset))) for name, kind in ACTIVATIONS.items()),
    ("Add", model([op("Add", "x", "c")], {"c": values(2, 1, 1)})),
    ("Add", model([op("Add", "c", "x")], {"c": values(1, 2, 4, 5)})),
    ("Add", model([op("Add", "x", "c")], {"c": values(3, 6)}, (1, 1, 6))),
    ("Add", model([op("Add", "x", "c")], {"c": values(3, 1, 1)}, (6,))),
    ("Add", model([op("Relu", "x", output="r"), op("Add", "x", "r")])),
    ("Add", model([op("Gemm", "x", "w", output="g"), op("Add", "g", "x")], {"w": values(6, 1)}, (1, 6))),
    ("Add", model([op("Add", "x", "x")])),
    ("AveragePool", model([op("AveragePool", "x", kernel_shape=[2, 3], strides=[2, 1])])),
    ("AveragePool", model([op("AveragePool", "x", kernel_shape=[2, 2], pads=[1, 0, 0, 1], count_include_pad=1)])),
    ("AveragePool", model([op("AveragePool", "x", kernel_shape=[2, 2], pads=[1, 1, 1, 1])], opset=8)),
    ("AveragePool", model([op("AveragePool", "x", kernel_shape=[3, 2], auto_pad="SAME_UPPER", strides=[2, 2])])),
    ("AveragePool", model([op("AveragePool", "x", kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1)])),
    ("AveragePool", model([op("AveragePool", "x", kernel_shape=[2, 2], dilations=[2, 1])], opset=19)),
    ("BatchNormalization", model([op("BatchNormalization", "x", "s", "b", "m", "v", epsilon=1e-2)], NORM)),
    ("BatchNormalization", model([op("BatchNormalization", "x", "s", "b", "m", "v")], NORM, opset=8)),
    ("BatchNormalization", model([op("BatchNormalization", "x", "s", "b", "m", "v")], NORM, (1, 2), opset=20)),
    ("Clip", model([op("Clip", "x", min=-0.5, max=0.25)], opset=8)),
    ("Clip", model([op("Clip", "x", max=0.25)], opset=10)),
    ("Clip", model([op("Clip", "x", min=0.1)], opset=10)),
    ("Clip", model([op("Clip", "x", "l", "u")], {"l": np.float32(-0.5), "u": np.float32(6)}, opset=11)),
    ("Clip", model([op("Clip", "x", "", "u")], {"u": np.float32(0.3)}, opset=20)),
    ("Clip", model([op("Clip", "x")], opset=13)),
    ("Concat", model([op("Relu", "x", output="r"), op("Concat", "r", "x", "r", axis=-3)])),
    ("Concat", model([op("Relu", "x", output="r"), op("Concat", "r", "x", axis=3)], opset=8)),
    ("Concat", model([op("Concat", "c", "x", "d", axis=2)], {"c": values(1, 2, 1, 5), "d": values(1, 2, 2, 5)})),
    ("Conv", model([op("Conv", "x", "w", "b")], {"w": values(3, 2, 2, 3), "b": values(3)})),
    ("Conv", model([op("Conv", "x", "w", pads=[0, 1, 2, 0], strides=[2, 1])], {"w": values(3, 2, 2, 3)})),
    ("Conv", model([op("Conv", "x", "w", auto_pad="SAME_UPPER", strides=[2, 2])], {"w": values(3, 2, 3, 2)})),
    ("Conv", model([op("Conv", "x", "w", auto_pad="SAME_LOWER", strides=[1, 2])], {"w": values(3, 2, 2, 3)})),
    ("Conv", model([op("Conv", "x", "w", auto_pad="VALID", dilations=[2, 1])], {"w": values(3, 2, 2, 2)})),
    ("Conv", model([op("Conv", "x", "w", group=2)], {"w": values(4, 1, 2, 2)})),
    (
        "Conv",
        model(
            [op("Unsqueeze", "x", "a", output="u"), op("Conv", "u", "w")],
            {"a": np.array([0]), "w": values(3, 2, 2, 2)},
            (2, 4, 5),
        ),
    ),
    ("Div", model([op("Div", "x", "c")], {"c": values(2, 1, 1)})),
    ("Dropout", model([op("Dropout", "x", "ratio")], {"ratio": np.float32(0.5)})),
    ("Dropout", model([op("Dropout", "x", ratio=0.5)], opset=8)),
    ("Dropout", model([op("Dropout", "x", "", "t")], {"t": np.array(False)}, opset=13)),
    ("Flatten", model([op("Flatten", "x")])),
    ("Flatten", model([op("Flatten", "x", axis=-3)])),
    ("Flatten", model([op("Flatten", "x", axis=2)], opset=8)),
    ("Flatten", model([op("Flatten", "x", axis=0)], shape=(3, 4), opset=9)),
    ("Gather", model([op("Gather", "x", "i", axis=2)], {"i": np.array([3, 0, -1, 3])})),
    ("Gather", model([op("Gather", "x", "i", axis=-1)], {"i": np.array([[0, 1], [4, 4]])}, opset=8)),
    ("Gather", model([op("Gather", "x", "i")], {"i": np.array(0)})),
    ("Gemm", model([op("Gemm", "x", "w", "b")], {"w": values(6, 3), "b": values(3)}, (1, 6))),
    ("Gemm", model([op("Gemm", "x", "w", transB=1)], {"w": values(3, 6)}, (1, 6))),
    (
        "Gemm",
        model(
            [op("Gemm", "x", "w", "b", alpha=0.5, beta=3.0, transB=1)], {"w": values(3, 6), "b": values(1, 3)}, (1, 6)
        ),
    ),
    ("Gemm", model([op("Gemm", "x", "w", "b")], {"w": values(6, 3), "b": values(1)}, (1, 6), opset=8)),
    ("Gemm", model([op("Gemm", "x", "w", "b", transA=1)], {"w": values(6, 3), "b": values(4, 1)}, (6, 4))),
    ("Gemm", model([op("Gemm", "x", "w", "b", transA=1)], {"w": values(6, 3), "b": values(3)}, (6, 1))),
    ("GlobalAveragePool", model([op("GlobalAveragePool", "x")])),
    ("GlobalMaxPool", model([op("GlobalMaxPool", "x")])),
    ("Identity", model([op("Identity", "x", output="i"), op("Relu", "i")])),
    ("LeakyRelu", model([op("LeakyRelu", "x")])),
    ("LeakyRelu", model([op("LeakyRelu", "x", alpha=0.3)], opset=8)),
    ("MatMul", model([op("MatMul", "x", "w")], {"w": values(6, 3)}, ("batch", 6))),
    ("MatMul", model([op("MatMul", "x", "w")], {"w": values(5, 3)})),
    ("MatMul", model([op("MatMul", "x", "w")], {"w": values(5, 3)}, (5,))),
    ("MatMul", model([op("MatMul", "x", "w")], {"w": values(5)})),
    ("MatMul", model([op("MatMul", "w", "x")], {"w": values(3, 5)}, (5,))),
    ("MatMul", model([op("MatMul", "w", "x")], {"w": values(3, 5)}, (5, 1))),
    ("MatMul", model([op("MatMul", "w", "x")], {"w": values(1, 3, 1)}, (1, 7))),
    ("MatMul", model([op("MatMul", "w", "x")], {"w": values(1, 4)})),
    ("MaxPool", model([op("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2])], opset=8)),
    ("MaxPool", model([op("MaxPool", "x", kernel_shape=[3, 2], pads=[1, 0, 0, 1])])),
    ("MaxPool", model([op("MaxPool", "x", kernel_shape=[2, 2], strides=[3, 2], ceil_mode=1)], opset=10)),
    ("MaxPool", model([op("MaxPool", "x", kernel_shape=[2, 3], dilations=[2, 2])], opset=12)),
    ("MaxPool", model([op("MaxPool", "x", kernel_shape=[3, 3], auto_pad="SAME_LOWER", strides=[2, 2])])),
    ("Mul", model([op("Mul", "x", "c")], {"c": values(5)})),
    ("Mul", model([op("Mul", "c", "x")], {"c": np.float32(-2.5)})),
    ("Neg", model([op("Neg", "x")])),
    ("PRelu", model([op("PRelu", "x", "s")], {"s": values(2, 1, 1)})),
    ("Pad", model([op("Pad", "x", "p")], {"p": PADS})),
    ("Pad", model([op("Pad", "x", pads=PADS.tolist())], opset=10)),
    ("Pad", model([op("Pad", "x", pads=PADS.tolist(), value=1.5)], opset=8)),
    ("Pad", model([op("Pad", "x", "p", "", "a")], {"p": np.array([1, 2, 3, 0]), "a": np.array([-1, 2])}, opset=18)),
    ("Pad", model([op("Pad", "x", "p", "f")], {"p": PADS, "f": np.float32(-2)}, opset=13)),
    ("Pad", model([op("Pad", "x", "p")], {"p": np.array([0, 0, -1, 2, 0, 1, 0, -3])})),
    ("Pad", model([op("Pad", "x", "p", mode="reflect")], {"p": PADS})),
    ("Pad", model([op("Pad", "x", "p", mode="edge")], {"p": PADS})),
    ("Relu", model([op("Relu", "x")])),
    ("Relu", model([op("Relu", "x")], shape=(2, 3))),
    ("Relu", model([op("Relu", "x")], shape=(1,))),
    ("Reshape", model([op("Reshape", "x", "s")], {"s": np.array([0, 5, -1])})),
    ("Reshape", model([op("Reshape", "x", "s")], {"s": np.array([-1])}, opset=8)),
    ("Reshape", model([op("Shape", "x", output="s"), op("Relu", "x", output="r"), op("Reshape", "r", "s")])),
    (
        "Reshape",
        model(
            [
                op("Shape", "x", output="s", start=-4, end=2),
                op("Concat", "s", "rest", output="t", axis=0),
                op("Reshape", "x", "t"),
            ],
            {"rest": np.array([-1])},
        ),
    ),
    ("Sigmoid", model([op("Sigmoid", "x")])),
    ("Slice", model([op("Slice", "x", starts=[1, -3], ends=[2, 2**31 - 1], axes=[1, 3])], opset=9)),
    ("Slice", model([op("Slice", "x", "s", "e")], {"s": np.array([0, 1, 1]), "e": np.array([1, 2, -1])}, opset=10)),
    (
        "Slice",
        model(
            [op("Slice", "x", "s", "e", "a", "t")],
            {"s": np.array([9, -1]), "e": np.array([-9, -99]), "a": np.array([2, 3]), "t": np.array([-1, -2])},
            opset=13,
        ),
    ),
    ("Squeeze", model([op("Squeeze", "x", "a")], {"a": np.array([1, -1])}, (1, 1, 4, 1))),
    ("Squeeze", model([op("Squeeze", "x", axes=[2])], shape=(1, 3, 1), opset=11)),
    ("Squeeze", model([op("Squeeze", "x")], shape=(1, 3, 1, 2), opset=13)),
    ("Sub", model([op("Sub", "x", "c")], {"c": values(4, 5)})),
    ("Sub", model([op("Sub", "c", "x")], {"c": values(5)})),
    ("Sub", model([op("Relu", "x", output="r"), op("Sub", "r", "x")])),
    ("Tanh", model([op("Tanh", "x")], opset=8)),
    ("Transpose", model([op("Transpose", "x", perm=[0, 3, 1, 2])])),
    ("Transpose", model([op("Transpose", "x", perm=[1, 0, 2, 3])])),
    ("Transpose", model([op("Transpose", "x", perm=[3, 0, 2, 1])])),
    ("Transpose", model([op("Transpose", "x")], shape=(3, 4), opset=8)),
    ("Transpose", model([op("Transpose", "x")], shape=(3, 4, 1))),
    ("Unsqueeze", model([op("Unsqueeze", "x", "a")], {"a": np.array([1, -1])}, (1, 3, 4))),
    ("Unsqueeze", model([op("Unsqueeze", "x", axes=[2])], shape=(1, 3, 4), opset=11)),
    ("Unsqueeze", model([op("Unsqueeze", "x", axes=[0])], shape=(3, 4), opset=8)),
]


@pytest.mark.parametrize("data", [c[1] for c in CASES], ids=[f"{kind}-{i}" for i, (kind, _) in enumerate(CASES)])
def test_reader_agrees_with_onnxruntime(data: bytes) -> None:
    network = parse_onnx(data)
    x = inputs(network, 4)
    expected = Runtime(network)(x).double()
    assert network(x).shape == expected.shape
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)


def test_constants_are_folded() -> None:
    """A weight that the graph itself computes: transposed, scaled, cast; from a Constant node."""
    nodes = [
        op("Constant", output="t", value=numpy_helper.from_array(values(3, 6))),
        op("Cast", "t", output="f", to=TensorProto.FLOAT),
        op("Transpose", "f", output="w", perm=[1, 0]),
        op("Mul", "w", "two", output="w2"),
        op("MatMul", "x", "w2"),
    ]
    network = parse_onnx(model(nodes, {"two": np.float32(2)}, (1, 6)))
    x = inputs(network, 4)
    assert [type(node.operator) for node in network.nodes] == [Input, Linear]
    torch.testing.assert_close(network(x), x @ torch.from_numpy(2 * values(3, 6)).T, rtol=1e-5, atol=1e-5)


def test_a_branch_that_a_constant_chooses_is_read() -> None:
    """As exporters write ``squeeze`` of a shape that might be free."""

    def branch(kind: str, name: str) -> onnx.GraphProto:
        return helper.make_graph([op(kind, "x", output=name)], name, [], [onnx.ValueInfoProto(name=name)])

    branches = {"then_branch": branch("Relu", "t"), "else_branch": branch("Neg", "e")}
    nodes = [
        op("Size", "x", output="n"),
        op("Greater", "n", "limit", output="c"),
        helper.make_node("If", ["c"], ["i"], name="my_if", **branches),
        op("Identity", "i"),
    ]
    for limit, kind in ((5, "Relu"), (6, "Scale")):
        network = parse_onnx(model(nodes, {"limit": np.array(limit)}, (1, 6)))
        assert [node.operator.kind for node in network.nodes] == ["Input", kind]
        x = inputs(network, 4)
        torch.testing.assert_close(network(x).float(), Runtime(network)(x))


def test_what_the_output_does_not_need_is_dropped() -> None:
    network = parse_onnx(model([op("Relu", "x", output="unused"), op("Flatten", "x")]))
    assert [node.name for node in network.nodes] == ["x", "y"]


# ---- ONNX: errors ---------------------------------------------------------------------------------------------------

W = {"w": values(6, 3)}
BAD: dict[str, tuple[bytes, str]] = {
    "garbage": (b"this is no network", "not a valid ONNX model"),
    "empty": (b"", "not a valid ONNX model"),
    "invalid": (model([op("Relu", "nowhere")]), "not a valid ONNX model.*nowhere"),
    "operator": (model([op("Sin", "x")]), r"node 'my_sin' \(Sin\): operator not supported"),
    "another gelu": (model([op("Gelu", "x", approximate="sine")], opset=20), r"\(Gelu\): approximate 'sine'"),
    "two inputs": (model([op("Add", "x", "z")], names=("x", "z")), r"takes 2 inputs, 'x' \(1, 2, 4, 5\), 'z' \(1"),
    "constant output": (model([op("Relu", "c")], {"c": values(2)}), "'y' does not depend on an input"),
    "shape of a weight": (model([op("MatMul", "x", "w")], W, (1, 7)), r"my_matmul.*\(6, 3\).*\(1, 7\)"),
    "length of a bias": (
        model([op("Gemm", "x", "w", "b")], W | {"b": values(2)}, (1, 6)),
        r"my_gemm.*bias of shape \(2,\)",
    ),
    "length of a kernel's bias": (
        model([op("Conv", "x", "w", "b")], {"w": values(3, 2, 2, 2), "b": values(2)}),
        r"my_conv.*bias of shape \(2,\)",
    ),
    "kernel's bias from the input": (
        model([op("Flatten", "x", output="b"), op("Conv", "x", "w", "b")], {"w": values(40, 2, 2, 2)}),
        "my_conv.*B must be a constant",
    ),
    "kernel larger than the image": (
        model([op("Conv", "x", "w")], {"w": values(3, 2, 5, 2)}),
        r"my_conv.*\(3, 2, 5, 2\) is larger.*\(2, 4, 5\)",
    ),
    "shape of a kernel": (model([op("Conv", "x", "w")], {"w": values(3, 1, 2, 2)}), r"my_conv.*\(3, 1, 2, 2\)"),
    "constant operand": (
        model([op("Add", "x", "c")], {"c": values(3, 5)}, (1, 1, 6)),
        r"my_add.*\(1, 1, 6\) and \(3, 5",
    ),
    "operands": (
        model([op("Gemm", "x", "w", output="g"), op("Add", "g", "x")], {"w": values(6, 2)}, (1, 6)),
        r"my_add.*\(1, 2\) and \(1, 6\)",
    ),
    "divided by the input": (model([op("Div", "c", "x")], {"c": values(5)}), "my_div.*divisor must be a constant"),
    "product of inputs": (model([op("Mul", "x", "x")]), "my_mul.*not affine"),
    "weight from the input": (model([op("MatMul", "x", "x")], shape=(1, 1, 1)), "my_matmul.*constant"),
    "divided by zero": (model([op("Div", "x", "c")], {"c": np.zeros(5)}), "node 'y': multiplier contains NaN or inf"),
    "NaN weight": (
        model([op("Gemm", "x", "w", output="g"), op("Relu", "g")], {"w": np.full((6, 3), np.nan)}, (1, 6)),
        "node 'g': weight contains NaN",
    ),
    "NaN bias": (
        model([op("Gemm", "x", "w", "b")], W | {"b": np.array([0.0, np.inf, 0.0])}, (1, 6)),
        "node 'y': bias contains NaN",
    ),
    "free shape": (model([op("Relu", "x")], shape=(1, "n")), r"input 'x' \(1, n\): only the first dimension"),
    "no shape": (model([op("Relu", "x")], shape=()), r"input 'x' \(\): has no shape"),
    "kernel of one dimension": (
        model([op("Conv", "x", "w")], {"w": values(3, 2, 2)}, (1, 2, 4, 4)),
        "my_conv.*kernel of 1 axes",
    ),
    "nothing but padding": (
        model([op("MaxPool", "x", kernel_shape=[1, 2], pads=[1, 0, 0, 0])]),
        "my_maxpool.*nothing but padding",
    ),
    "positions of maxima": (
        model([helper.make_node("MaxPool", ["x"], ["m", "y"], name="pool", kernel_shape=[2, 2])]),
        r"output 'y' .* INT64: FLOAT or DOUBLE",
    ),
    "sides of a clip": (
        model([op("Clip", "x", "l", "u")], {"l": np.float32(1), "u": np.float32(0)}),
        r"my_clip.*\[1, 0\]",
    ),
    "side from the input": (
        model([op("Squeeze", "x", output="s"), op("Clip", "x", "s")], shape=(1, 1)),
        "my_clip.*min must be a constant",
    ),
    "training": (model([op("Dropout", "x", "", "t")], {"t": np.array(True)}), "my_dropout.*training_mode"),
    "training of a norm": (
        model([op("BatchNormalization", "x", "s", "b", "m", "v", training_mode=1)], NORM),
        "my_batchnormalization.*training_mode",
    ),
    "length of a norm": (
        model([op("BatchNormalization", "x", "s", "b", "m", "v")], {n: values(3) for n in "sbmv"}),
        "my_batchnormalization.*3 factors for 2 channels",
    ),
    "gathered beyond": (model([op("Gather", "x", "i", axis=2)], {"i": np.array([4])}), "my_gather.*out of bounds"),
    "empty slice": (model([op("Slice", "x", "s", "e")], {"s": np.array([1]), "e": np.array([1])}), "my_slice.*nothing"),
    "squeezed": (model([op("Squeeze", "x", "a")], {"a": np.array([2])}), "my_squeeze.*axes of one entry"),
    "random constant": (
        model([op("RandomNormal", output="r", shape=[5]), op("Add", "x", "r")]),
        r"my_randomnormal.*\(RandomNormal\): operator not supported",
    ),
    "reshape to another size": (model([op("Reshape", "x", "s")], {"s": np.array([1, 39])}), "my_reshape.*39"),
}


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD.keys())
def test_bad_models_are_one_line_that_names_the_node(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        read_onnx(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "missing.onnx", "no such file"), (tmp_path, "is a folder")):
        with pytest.raises(InputError, match=message) as caught:
            load(path)
        assert str(path) in str(caught.value)


def test_packed_files(tmp_path: Path) -> None:
    path, data = tmp_path / "network.onnx.gz", model([op("Relu", "x")])
    path.write_bytes(gzip.compress(data))
    read = load(path).model
    assert read is not None
    assert read.graph == data
    for broken in (data, gzip.compress(data)[:-20]):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=r"network\.onnx\.gz: cannot be unpacked"):
            load(path)


def test_weights_listed_as_inputs() -> None:
    """As files of before 2019 have them."""
    made = onnx.load_model_from_string(model([op("MatMul", "x", "w")], W, (1, 6), opset=8))
    made.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, (6, 3)))
    made.ir_version = 3
    network, x = parse_onnx(made.SerializeToString()), draw(4, 6)
    torch.testing.assert_close(network(x), x @ torch.from_numpy(W["w"]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["FLOAT16", "INT32", "BOOL", "UINT8"])
def test_inputs_of_other_types_than_float32_and_float64_are_named(kind: str) -> None:
    made = onnx.load_model_from_string(model([op("Cast", "x", to=TensorProto.FLOAT)]))
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.DataType.Value(kind)
    with pytest.raises(InputError, match=f"input 'x': {kind}"):
        parse_onnx(made.SerializeToString())


def test_operators_of_other_domains_are_named() -> None:
    made = onnx.load_model_from_string(model([op("Relu", "x")]))
    made.graph.node[0].domain = "com.example"
    made.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(InputError, match=r"my_relu.*domain 'com\.example'"):
        parse_onnx(made.SerializeToString())


@pytest.mark.parametrize("factor", [1.0, 1e6])
def test_load_compares_with_onnxruntime(factor: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Relu read as nothing is noticed, also next to a branch of large values that adds next to nothing."""
    monkeypatch.setitem(READERS, "Relu", lambda call: Converted(None, call.shape()))
    nodes = [
        op("Relu", "x", output="r"),
        op("Div", "x", "f", output="large"),
        op("Mul", "large", "s", output="small"),
        op("Add", "r", "small"),
    ]
    path = tmp_path / "network.onnx"
    path.write_bytes(model(nodes, {"f": np.float32(1 / factor), "s": np.float32(1e-9)}, (1, 6)))
    with pytest.raises(InputError, match="differ from onnxruntime"):
        load(path)


def test_an_input_that_a_reader_overlooks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gemm read without its C, which depends on the input."""
    monkeypatch.setitem(READERS, "Gemm", lambda call: Converted(Linear(draw(6, 6), None, (6,)), (1, 6)))
    with pytest.raises(InputError, match="'y': takes inputs of shapes"):
        parse_onnx(model([op("Gemm", "x", "w", "x")], {"w": values(6, 6)}, (1, 6)))


def test_what_onnxruntime_cannot_run_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(model([op("Relu", "x")], opset=999))
    with pytest.raises(InputError, match=r"onnxruntime cannot run the network.*999") as caught:
        load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


# ---- networks of others ---------------------------------------------------------------------------------------------

PUBLIC = sorted(BENCHMARKS.glob("**/*.onnx"))
#: Inputs and outputs of networks by the beginning of their names; the others are for MNIST.
SIZES = {"ACASXU": (5, 5), "resnet": (3072, 10), "cifar": (3072, 10)}


@pytest.mark.skipif(not PUBLIC, reason="the folder shared/benchmarks is not next to this repository")
@pytest.mark.parametrize("path", PUBLIC, ids=lambda path: path.stem)
def test_public_networks_load(path: Path) -> None:
    """They are compared with onnxruntime as they load."""
    network = load(path)
    sizes = (network.size(network.input.name), network.size(network.output.name))
    assert sizes == next((SIZES[name] for name in SIZES if path.stem.startswith(name)), (784, 10))


def array(name: str, value: Any) -> onnx.NodeProto:
    made = np.asarray(value)
    made = made.astype(np.float32) if made.dtype.kind == "f" else made
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(made, name))


def constant_or_value(
    kind: str, opset: int, constants: dict[str, Any], attributes: dict[str, Any], shape: Any
) -> bytes:
    """``kind`` of a constant and of the input, added up: its form in an opset, folded and read."""
    names = list(constants)

    def more(name: str) -> list[str]:
        return [f"{name}/rest"] if kind == "Split" else []

    nodes = [
        *(array(name, value) for name, value in constants.items()),
        array("k", np.linspace(-1, 1, int(np.prod(shape))).reshape(shape)),
        helper.make_node(kind, ["k", *names], ["u", *more("u")], **attributes),
        helper.make_node(kind, ["x", *names], ["v", *more("v")], **attributes),
        op("Add", "u", "v"),
    ]
    return model(nodes, shape=shape, opset=opset)


#: What migrated from an attribute to an input, or changed what it does: the opsets before and since, and both forms.
MIGRATED: list[tuple[str, dict[int, tuple[dict[str, Any], dict[str, Any]]], tuple[int, ...]]] = [
    ("Unsqueeze", {7: ({}, {"axes": [0]}), 11: ({}, {"axes": [-1]}), 13: ({"axes": [0]}, {})}, (1, 6)),
    ("Squeeze", {7: ({}, {"axes": [2]}), 11: ({}, {"axes": [-1]}), 13: ({"axes": [2]}, {})}, (1, 6, 1)),
    (
        "Clip",
        {7: ({}, {"min": -0.5, "max": 0.3}), 11: ({"low": np.float32(-0.5), "high": np.float32(0.3)}, {})},
        (1, 6),
    ),
    (
        "Slice",
        {7: ({}, {"starts": [1], "ends": [3], "axes": [1]}), 10: ({"starts": [1], "ends": [3], "axes": [1]}, {})},
        (1, 6),
    ),
    ("Pad", {7: ({}, {"pads": [0, 1, 0, 2], "value": 0.5}), 11: ({"pads": [0, 1, 0, 2]}, {})}, (1, 6)),
    ("ReduceSum", {7: ({}, {"axes": [2]}), 11: ({}, {"axes": [-1]}), 13: ({"axes": [2]}, {})}, (1, 2, 3)),
    ("ReduceMean", {7: ({}, {"axes": [2]}), 11: ({}, {"axes": [-1]}), 18: ({"axes": [2]}, {})}, (1, 2, 3)),
    ("ReduceMax", {7: ({}, {"axes": [2]}), 12: ({}, {"axes": [-1]}), 18: ({"axes": [2]}, {})}, (1, 2, 3)),
    ("Split", {7: ({}, {"split": [2, 4], "axis": 1}), 13: ({"split": [2, 4]}, {"axis": 1})}, (1, 6)),
    ("Dropout", {7: ({}, {"ratio": 0.5}), 12: ({"ratio": np.float32(0.5)}, {})}, (1, 6)),
    (
        "Upsample",
        {
            7: ({}, {"scales": [1.0, 1.0, 2.0, 3.0], "mode": "nearest"}),
            9: ({"scales": np.float32([1, 1, 2, 3])}, {"mode": "nearest"}),
        },
        (1, 1, 2, 3),
    ),
    (
        "Resize",
        {
            10: ({"scales": np.float32([1, 1, 2, 2])}, {"mode": "nearest"}),
            11: ({"roi": np.float32([]), "scales": np.float32([1, 1, 2, 2])}, {"mode": "nearest"}),
        },
        (1, 1, 2, 3),
    ),
    ("Flatten", {7: ({}, {"axis": 1}), 11: ({}, {"axis": -1})}, (1, 2, 3)),
    ("Reshape", {7: ({"shape": [1, -1]}, {}), 14: ({"shape": [1, 6]}, {"allowzero": 1})}, (1, 2, 3)),
    ("BatchNormalization", {7: ({"scale": [2.0], "bias": [0.1], "mean": [0.2], "var": [1.5]}, {})}, (1, 1, 3, 2)),
    ("PRelu", {7: ({"slope": np.float32([0.1])}, {})}, (1, 6)),
    (
        "Concat",
        {7: ({"c": np.float32([[1, 2]])}, {"axis": 1}), 11: ({"c": np.float32([[1, 2]])}, {"axis": -1})},
        (1, 6),
    ),
    ("Gemm", {7: ({"w": np.ones((6, 2)), "b": np.ones(2)}, {}), 11: ({"w": np.ones((6, 2))}, {})}, (1, 6)),
    (
        "AveragePool",
        {7: ({}, {"kernel_shape": [2, 2]}), 10: ({}, {"kernel_shape": [2, 2], "ceil_mode": 1})},
        (1, 1, 3, 3),
    ),
    (
        "MaxPool",
        {7: ({}, {"kernel_shape": [2, 2]}), 10: ({}, {"kernel_shape": [2, 2], "dilations": [2, 1]})},
        (1, 1, 3, 3),
    ),
]
OPSETS = (7, 8, 9, 10, 11, 12, 13, 17, 18, 21)


@pytest.mark.parametrize(("kind", "forms", "shape"), MIGRATED, ids=[kind for kind, _, _ in MIGRATED])
def test_operators_in_every_opset_in_which_their_form_differs(
    kind: str, forms: dict[int, tuple[dict[str, Any], dict[str, Any]]], shape: tuple[int, ...]
) -> None:
    """Of constants, which are folded, and of values: as onnxruntime has it."""
    changes = [*forms, 22]
    for since, until in pairwise(changes):
        for opset in (
            number for number in OPSETS if since <= number < until and not (kind == "Upsample" and number > 9)
        ):
            constants, attributes = forms[since]
            data = constant_or_value(kind, opset, constants, attributes, shape)
            network = parse_onnx(data, f"{kind} in opset {opset}")
            check_against_runtime(network, f"{kind} in opset {opset}")


@pytest.mark.parametrize("opset", [1, 6])
def test_models_of_opsets_before_7_are_converted(opset: int) -> None:
    """Their arithmetic broadcasts by an attribute, their Reshape has the shape as one."""
    attributes: dict[str, Any] = {"broadcast": 1} | ({"consumed_inputs": [0, 0]} if opset == 1 else {})
    nodes = [
        op("Relu", "x", output="r") if opset == 6 else op("Identity", "x", output="r"),
        op("Add", "r", "b", **attributes),
    ]
    made = onnx.load_model_from_string(model(nodes, {"b": values(6)}, (1, 6), opset=7))
    made.opset_import[0].version, made.ir_version = opset, 3
    made.graph.input.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, [6]))
    network = parse_onnx(made.SerializeToString())
    x = draw(3, 6)
    expected = (x.relu() if opset == 6 else x) + torch.from_numpy(values(6).astype(np.float32))
    torch.testing.assert_close(network(x), expected)
    check_against_runtime(network, f"opset {opset}")
