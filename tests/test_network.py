"""Operators are the linear maps they claim to be, and networks survive the way through torch and ONNX."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import conv_module, dense_module, inputs, matrix, residual_module
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from kreludomain.errors import InputError
from kreludomain.network import Network, Node, Runtime, from_torch, load, parse_onnx, read_onnx, to_onnx
from kreludomain.network.onnx_reader import READERS
from kreludomain.network.operators import (
    AffineOperator,
    Conv2d,
    Input,
    Linear,
    Pad,
    Permute,
    Relu,
    Reshape,
    Scale,
    Shape,
    Sum,
    average_pool,
)

BENCHMARKS = Path(__file__).resolve().parents[2] / "shared" / "benchmarks"


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- operators ------------------------------------------------------------------------------------------------------

OPERATORS: dict[str, AffineOperator] = {
    "linear": Linear(draw(4, 6), draw(4), (6,)),
    "linear, last of three axes": Linear(draw(4, 5), draw(4), (2, 3, 5)),
    "conv": Conv2d(draw(3, 2, 3, 3), draw(3), (2, 6, 7)),
    "conv, padded": Conv2d(draw(3, 2, 3, 2), draw(3), (2, 5, 6), padding=(2, 1)),
    "conv, strided, border missed": Conv2d(draw(3, 2, 2, 3), None, (2, 7, 8), stride=(2, 3)),
    "conv, dilated": Conv2d(draw(3, 2, 2, 3), draw(3), (2, 7, 9), dilation=(2, 3), padding=(1, 2)),
    "conv, groups": Conv2d(draw(6, 2, 3, 3), draw(6), (4, 5, 5), stride=(2, 1), padding=(1, 0), groups=2),
    "conv, everything odd": Conv2d(draw(4, 1, 3, 2), draw(4), (2, 11, 8), (3, 2), (2, 1), (2, 1), 2),
    "average pool": average_pool((2, 5, 6), (2, 3), (2, 2), (1, 0)),
    "scale": Scale(draw(3, 1, 1), draw(1, 4, 2), (3, 4, 2)),
    "shift by a scalar": Scale(torch.tensor(-1.0, dtype=torch.float64), draw(2), (3, 2)),
    "sum": Sum((1, -1, 1), (2, 3)),
    "difference that starts negative": Sum((-1, 1), (4,)),
    "reshape": Reshape((2, 3, 4), (6, 4)),
    "permute": Permute((2, 3, 4), (2, 0, 1)),
    "pad": Pad((2, 3, 4), (0, 1, 2), (1, 0, 3)),
}

affine = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS.keys())


def in_shapes(operator: AffineOperator) -> list[Shape]:
    shape: Shape = operator.in_shape  # type: ignore[attr-defined]
    return [shape] * (len(operator.signs) if isinstance(operator, Sum) else 1)


def matrices(operator: AffineOperator) -> list[Tensor]:
    """The explicit matrix of the operator for each of its inputs, the others at zero."""
    shapes = in_shapes(operator)

    def part(position: int) -> Callable[[Tensor], Tensor]:
        return lambda x: operator.linear(*(x if i == position else torch.zeros_like(x) for i in range(len(shapes))))

    return [matrix(part(i), shape) for i, shape in enumerate(shapes)]


@affine
def test_value_is_matrix_times_input_plus_offset(operator: AffineOperator) -> None:
    xs = [draw(3, *shape, seed=i + 1) for i, shape in enumerate(in_shapes(operator))]
    expected = sum(x.flatten(1) @ w.T for x, w in zip(xs, matrices(operator), strict=True))
    if operator.offset is not None:
        assert operator.offset.shape == operator.out_shape
        expected = expected + operator.offset.flatten()
    value = operator(*xs)
    assert value.shape == (3, *operator.out_shape)
    torch.testing.assert_close(value.flatten(1), expected)


@affine
def test_transpose_is_the_adjoint(operator: AffineOperator) -> None:
    """<W_i x, a> = <x, W_i^T a> for all x and a: the transposed matrix, in every entry."""
    size = math.prod(operator.out_shape)
    units = torch.eye(size, dtype=torch.float64).reshape(size, *operator.out_shape)
    for got, w in zip(operator.transpose(units), matrices(operator), strict=True):
        torch.testing.assert_close(got.flatten(1), w)


@affine
def test_transpose_of_dense_coefficients(operator: AffineOperator) -> None:
    a = draw(5, *operator.out_shape, seed=9)
    for got, w, shape in zip(operator.transpose(a), matrices(operator), in_shapes(operator), strict=True):
        assert got.shape == (5, *shape)
        torch.testing.assert_close(got.flatten(1), a.flatten(1) @ w)


@affine
def test_magnitude_is_the_absolute_matrix(operator: AffineOperator) -> None:
    radii = [draw(3, *shape, seed=i + 1).abs() for i, shape in enumerate(in_shapes(operator))]
    expected = sum(r.flatten(1) @ w.abs().T for r, w in zip(radii, matrices(operator), strict=True))
    torch.testing.assert_close(operator.magnitude(*radii).flatten(1), expected)


@affine
def test_monomial_rows_have_one_entry(operator: AffineOperator) -> None:
    if operator.monomial and not isinstance(operator, Sum):
        (w,) = matrices(operator)
        assert int((w != 0).sum(1).max()) <= 1


@affine
def test_backward_step_keeps_the_value(operator: AffineOperator) -> None:
    """a . (W x + b) = (W^T a) . x + c, over batches of regions and rows of objectives."""
    a = draw(2, 3, *operator.out_shape, seed=5)
    xs = [draw(2, *shape, seed=i + 1) for i, shape in enumerate(in_shapes(operator))]
    passed, constant = operator.backward(a)
    assert constant.shape == (2, 3)
    expected = torch.einsum("bmn,bn->bm", a.flatten(2), operator(*xs).flatten(1))
    got = constant + sum(
        torch.einsum("bmn,bn->bm", c.flatten(2), x.flatten(1)) for c, x in zip(passed, xs, strict=True)
    )
    torch.testing.assert_close(got, expected)


@st.composite
def convolutions(draw_: st.DrawFn) -> Conv2d:
    """Convolutions with images large enough that single neurons take the windowed path of the transpose."""
    pair = lambda low, high: (draw_(st.integers(low, high)), draw_(st.integers(low, high)))  # noqa: E731
    groups, kernel, dilation = draw_(st.integers(1, 2)), pair(1, 3), pair(1, 2)
    stride, padding = pair(1, 3), pair(0, 2)
    size = tuple(d * (k - 1) + 1 + n for d, k, n in zip(dilation, kernel, pair(3, 9), strict=True))
    weight = draw(2 * groups, 2, *kernel, seed=draw_(st.integers(0, 99)))
    return Conv2d(weight, None, (2 * groups, *size), stride, padding, dilation, groups)


@settings(max_examples=60, deadline=None)
@given(convolutions(), st.integers(0, 99), st.integers(1, 2))
def test_windowed_transpose_is_the_plain_one(operator: Conv2d, seed: int, reach: int) -> None:
    """Rows that vanish outside a small window (a different one each, one row zero) against the explicit matrix."""
    channels, height, width = operator.out_shape
    generator = torch.Generator().manual_seed(seed)
    a = torch.zeros(6, channels, height, width, dtype=torch.float64)
    for row in a[:-1]:
        top, left = (int(torch.randint(0, n, (), generator=generator)) for n in (height, width))
        window = row[:, top : top + reach, left : left + reach]
        window.copy_(torch.randn(window.shape, generator=generator, dtype=torch.float64))
    (w,) = matrices(operator)
    (got,) = operator.transpose(a)
    torch.testing.assert_close(got.flatten(1), a.flatten(1) @ w)


def test_no_rows_transpose_to_no_rows() -> None:
    operator = OPERATORS["conv"]
    assert isinstance(operator, Conv2d)
    assert operator.transpose(torch.zeros(0, *operator.out_shape, dtype=torch.float64))[0].shape == (0, 2, 6, 7)


# ---- the graph ------------------------------------------------------------------------------------------------------


def test_nodes_that_a_node_depends_on() -> None:
    network = from_torch(residual_module(), (1, 5, 5))
    for name in network.pre_activations:
        above = network.upto(name)
        assert above[0] is network.input
        assert above[-1] is network[name]
        assert all(source in {n.name for n in above} for node in above for source in node.inputs)
    assert len(network.activations) == 4
    assert network.size(network.output.name) == 3


def test_dtype_changes_all_weights() -> None:
    network = from_torch(residual_module(), (1, 5, 5))
    x = inputs(network, 3)
    single = network.to(dtype=torch.float32)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single(x.float()).double(), network(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((), "starts with its input"),
        ((Node("y", Relu((2,)), ()),), "starts with its input"),
        ((Node("x", Input((2,))), Node("y", Relu((2,)), ("z",))), "'y'.*'z'"),
        ((Node("x", Input((2,))), Node("x", Relu((2,)), ("x",))), "two nodes"),
        ((Node("x", Input((1,))), Node("w", Linear(torch.tensor([[torch.nan]]), None, (1,)), ("x",))), "'w'.*NaN"),
    ],
)
def test_broken_graphs_are_errors(nodes: tuple[Node, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Network(nodes)


def test_unknown_node_lists_the_known_ones() -> None:
    network = from_torch(dense_module(2, 3, 1), (2,))
    with pytest.raises(InputError, match=rf"'nope'.*{network.output.name}"):
        network["nope"]


# ---- torch ----------------------------------------------------------------------------------------------------------


class Functions(nn.Module):
    """Everything a ``forward`` may call."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 2, dilation=2)
        self.dense = nn.Linear(18, 18)
        self.norm = nn.BatchNorm1d(18)
        self.head = nn.Sequential(nn.Dropout(), nn.Identity(), nn.Linear(18, 2, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv(x)).reshape(-1, 18)
        y = nn.functional.relu(self.norm(self.dense(x))).view(-1, 2, 9)
        y = torch.flatten(torch.add(y, x.view(-1, 2, 9)), 1)
        y -= x.relu()
        y = y - torch.reshape(x, (-1, 18))
        return self.head(y.flatten(1))


def test_functions_of_a_forward() -> None:
    torch.manual_seed(0)
    module = Functions()
    network = from_torch(module, (1, 5, 5))
    x = inputs(network, 4)
    torch.testing.assert_close(network(x), module.double().eval()(x))


def test_module_is_left_as_it_was() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.BatchNorm1d(2)).train()
    from_torch(module, (2,))
    assert module.training
    assert module[1].training
    assert module[0].weight.dtype == torch.float32


class Product(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class ScaledAdd(nn.Module):
    """The factor is easy to overlook: a network without it must not be returned."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.dense(x), alpha=2)


class InPlace(nn.Module):
    """``y`` is changed after it was computed: a graph without that must not be returned."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dense(x)
        z = torch.nn.functional.relu(y, inplace=True)
        return y + z


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.GELU()), (2,), r"'_1' \(GELU\).*not supported.*Linear"),
        (nn.Sequential(nn.MaxPool2d(2)), (1, 4, 4), r"MaxPool2d.*not supported"),
        (nn.Sequential(nn.Linear(3, 2)), (4,), r"'_0' \(Linear\).*\(2, 3\).*\(4,\)"),
        (nn.Sequential(nn.Conv2d(2, 2, 1)), (3, 4, 4), r"'_0' \(Conv2d\).*\(2, 2, 1, 1\).*\(3, 4, 4\)"),
        (nn.Sequential(nn.Conv2d(1, 1, 3, padding="same")), (1, 4, 4), "padding"),
        (nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False)), (2,), "running statistics"),
        (nn.Sequential(nn.AvgPool2d(2, ceil_mode=True)), (1, 5, 5), "ceil_mode"),
        (nn.Sequential(nn.Flatten(2)), (1, 4, 4), "start_dim"),
        (Product(), (2,), r"mul.*not supported"),
        (Branch(), (2,), "cannot be traced"),
        (TwoInputs(), (2,), "'y'.*one input"),
        (ScaledAdd(), (2,), "something else"),
        (InPlace(), (2,), "something else"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_unsupported_modules_are_named(module: nn.Module, shape: Shape, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        from_torch(module, shape)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Sequential(nn.BatchNorm2d(5)), (5,)),
        (nn.Sequential(nn.AvgPool2d(2)), (5, 6)),
        (nn.Sequential(nn.Conv2d(1, 1, 5)), (1, 3, 3)),
    ],
)
def test_shapes_that_do_not_fit_name_the_node(module: nn.Module, shape: Shape) -> None:
    with pytest.raises(InputError, match="node '_0'"):
        from_torch(module, shape)


def test_a_layer_alone_is_a_network() -> None:
    layer = nn.Linear(2, 3)
    x = draw(4, 2)
    torch.testing.assert_close(from_torch(layer, (2,))(x), copy.deepcopy(layer).double()(x))
    assert layer.weight.dtype == torch.float32


def test_weights_that_are_not_finite_name_the_node() -> None:
    module = dense_module(2, 3, 1)
    module[2].get_parameter("weight").data[0, 1] = torch.nan
    with pytest.raises(InputError, match="node '_2': weight contains NaN"):
        from_torch(module, (2,))


# ---- ONNX: round trip -----------------------------------------------------------------------------------------------

MODULES: dict[str, tuple[nn.Module, Shape]] = {
    "dense": (dense_module(4, 6, 6, 3, seed=1), (4,)),
    "conv": (conv_module(seed=2), (2, 6, 6)),
    "residual": (residual_module(seed=3), (1, 5, 5)),
    "functions": (Functions().eval(), (1, 5, 5)),
}


@pytest.mark.parametrize(("module", "shape"), MODULES.values(), ids=MODULES.keys())
def test_round_trip_through_onnx(module: nn.Module, shape: Shape, tmp_path: Path) -> None:
    """torch -> network -> ONNX -> network: the same values up to float32 weights, and onnxruntime's."""
    network = from_torch(module, shape)
    path = tmp_path / "network.onnx"
    path.write_bytes(to_onnx(network))
    again, x = load(path), inputs(network, 5)
    assert again.model == path.read_bytes()
    torch.testing.assert_close(again(x), network(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(Runtime(again)(x).double(), again(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(Runtime(network)(x), Runtime(again)(x))


@pytest.mark.parametrize("sign", [1, -1])
def test_every_operator_survives_the_writer(sign: int) -> None:
    """The operators no torch module makes: permuting, asymmetric padding, three summands, a leading minus."""
    nodes = (
        Node("x", Input((2, 3, 4))),
        Node("pad", Pad((2, 3, 4), (0, 1, 0), (0, 0, 2)), ("x",)),
        Node("permute", Permute((2, 4, 6), (2, 0, 1)), ("pad",)),
        Node("linear", Linear(draw(4, 4), draw(4), (6, 2, 4)), ("permute",)),
        Node("relu", Relu((6, 2, 4)), ("linear",)),
        Node("scale", Scale(draw(6, 1, 1), draw(4), (6, 2, 4)), ("permute",)),
        Node("bare", Scale(draw(1), None, (6, 2, 4)), ("scale",)),
        Node("sum", Sum((sign, 1, -1), (6, 2, 4)), ("relu", "bare", "permute")),
        Node("reshape", Reshape((6, 2, 4), (48,)), ("sum",)),
        Node("product", Linear(draw(3, 48), None, (48,)), ("reshape",)),
    )
    network = Network(nodes)
    x = inputs(network, 3)
    torch.testing.assert_close(Runtime(network)(x).double(), network(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(parse_onnx(to_onnx(network))(x), network(x), rtol=1e-4, atol=1e-4)


# ---- ONNX: every operator that is read ------------------------------------------------------------------------------


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


X4 = (1, 2, 4, 5)
NORM = {"s": values(2), "b": values(2), "m": values(2), "v": values(2) ** 2}
CASES: list[tuple[str, bytes]] = [
    ("Add", model([op("Add", "x", "c")], {"c": values(2, 1, 1)})),
    ("Add", model([op("Add", "c", "x")], {"c": values(1, 2, 4, 5)})),
    ("Add", model([op("Relu", "x", output="r"), op("Add", "x", "r")])),
    ("Add", model([op("Add", "x", "x")])),
    ("AveragePool", model([op("AveragePool", "x", kernel_shape=[2, 3], strides=[2, 1])])),
    ("AveragePool", model([op("AveragePool", "x", kernel_shape=[2, 2], pads=[1, 0, 0, 1], count_include_pad=1)])),
    ("BatchNormalization", model([op("BatchNormalization", "x", "s", "b", "m", "v", epsilon=1e-2)], NORM)),
    ("Conv", model([op("Conv", "x", "w", "b")], {"w": values(3, 2, 2, 3), "b": values(3)})),
    ("Conv", model([op("Conv", "x", "w", pads=[0, 1, 2, 0], strides=[2, 1])], {"w": values(3, 2, 2, 3)})),
    ("Conv", model([op("Conv", "x", "w", auto_pad="SAME_UPPER", strides=[2, 2])], {"w": values(3, 2, 3, 2)})),
    ("Conv", model([op("Conv", "x", "w", auto_pad="SAME_LOWER", strides=[1, 2])], {"w": values(3, 2, 2, 3)})),
    ("Conv", model([op("Conv", "x", "w", auto_pad="VALID", dilations=[2, 1])], {"w": values(3, 2, 2, 2)})),
    ("Conv", model([op("Conv", "x", "w", group=2)], {"w": values(4, 1, 2, 2)})),
    ("Div", model([op("Div", "x", "c")], {"c": values(2, 1, 1)})),
    ("Dropout", model([op("Dropout", "x", "ratio")], {"ratio": np.float32(0.5)})),
    ("Flatten", model([op("Flatten", "x")])),
    ("Flatten", model([op("Flatten", "x", axis=-3)])),
    ("Gemm", model([op("Gemm", "x", "w", "b")], {"w": values(6, 3), "b": values(3)}, (1, 6))),
    ("Gemm", model([op("Gemm", "x", "w", transB=1)], {"w": values(3, 6)}, (1, 6))),
    (
        "Gemm",
        model(
            [op("Gemm", "x", "w", "b", alpha=0.5, beta=3.0, transB=1)], {"w": values(3, 6), "b": values(1, 3)}, (1, 6)
        ),
    ),
    ("Gemm", model([op("Gemm", "x", "w", "b")], {"w": values(6, 3), "b": values(1)}, (1, 6))),
    ("GlobalAveragePool", model([op("GlobalAveragePool", "x")])),
    ("Identity", model([op("Identity", "x", output="i"), op("Relu", "i")])),
    ("MatMul", model([op("MatMul", "x", "w")], {"w": values(6, 3)}, ("batch", 6))),
    ("MatMul", model([op("MatMul", "x", "w")], {"w": values(5, 3)})),
    ("Mul", model([op("Mul", "x", "c")], {"c": values(5)})),
    ("Mul", model([op("Mul", "c", "x")], {"c": np.float32(-2.5)})),
    ("Neg", model([op("Neg", "x")])),
    ("Pad", model([op("Pad", "x", "p")], {"p": np.array([0, 0, 1, 2, 0, 1, 0, 3])})),
    ("Pad", model([op("Pad", "x", pads=[0, 0, 1, 2, 0, 1, 0, 3])], opset=10)),
    ("Pad", model([op("Pad", "x", "p", "", "a")], {"p": np.array([1, 2, 3, 0]), "a": np.array([-1, 2])}, opset=18)),
    ("Relu", model([op("Relu", "x")])),
    ("Reshape", model([op("Reshape", "x", "s")], {"s": np.array([0, 5, -1])})),
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
    ("Squeeze", model([op("Squeeze", "x", "a")], {"a": np.array([1, -1])}, (1, 1, 4, 1))),
    ("Squeeze", model([op("Squeeze", "x", axes=[2])], shape=(1, 3, 1), opset=11)),
    ("Sub", model([op("Sub", "x", "c")], {"c": values(4, 5)})),
    ("Sub", model([op("Sub", "c", "x")], {"c": values(5)})),
    ("Sub", model([op("Relu", "x", output="r"), op("Sub", "r", "x")])),
    ("Transpose", model([op("Transpose", "x", perm=[0, 3, 1, 2])])),
    ("Unsqueeze", model([op("Unsqueeze", "x", "a")], {"a": np.array([1, -1])}, (1, 3, 4))),
    ("Unsqueeze", model([op("Unsqueeze", "x", axes=[2])], shape=(1, 3, 4), opset=11)),
]


@pytest.mark.parametrize("data", [c[1] for c in CASES], ids=[f"{kind}-{i}" for i, (kind, _) in enumerate(CASES)])
def test_reader_agrees_with_onnxruntime(data: bytes) -> None:
    network = parse_onnx(data)
    x = inputs(network, 4)
    expected = Runtime(network)(x).double()
    assert network(x).shape == expected.shape
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)


def test_every_reader_has_a_case() -> None:
    assert {kind for kind, _ in CASES} == set(READERS)


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


def test_what_the_output_does_not_need_is_dropped() -> None:
    network = parse_onnx(model([op("Relu", "x", output="unused"), op("Flatten", "x")]))
    assert [node.name for node in network.nodes] == ["x", "y"]


# ---- ONNX: errors ---------------------------------------------------------------------------------------------------

W = {"w": values(6, 3)}
BAD: dict[str, tuple[bytes, str]] = {
    "garbage": (b"this is no network", "not a valid ONNX model"),
    "empty": (b"", "not a valid ONNX model"),
    "invalid": (model([op("Relu", "nowhere")]), "not a valid ONNX model.*nowhere"),
    "operator": (model([op("Softmax", "x")]), r"node 'my_softmax' \(Softmax\): operator not supported"),
    "two inputs": (model([op("Add", "x", "z")], names=("x", "z")), "2 inputs and 1 outputs"),
    "constant output": (model([op("Relu", "c")], {"c": values(2)}), "'y' does not depend on the input"),
    "shape of a weight": (model([op("MatMul", "x", "w")], W, (1, 7)), r"my_matmul.*\(3, 6\).*\(7,\)"),
    "length of a bias": (
        model([op("Gemm", "x", "w", "b")], W | {"b": values(2)}, (1, 6)),
        r"my_gemm.*bias of shape \(2,\)",
    ),
    "length of a kernel's bias": (
        model([op("Conv", "x", "w", "b")], {"w": values(3, 2, 2, 2), "b": values(2)}),
        r"my_conv.*bias of shape \(2,\)",
    ),
    "bias from the input": (
        model([op("Gemm", "x", "w", "x")], {"w": values(6, 6)}, (1, 6)),
        "my_gemm.*C must be a constant",
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
    "operand that broadcasts": (model([op("Add", "x", "c")], {"c": values(3, 6)}, (1, 1, 6)), "my_add.*does not fit"),
    "operands": (
        model([op("Gemm", "x", "w", output="g"), op("Add", "g", "x")], {"w": values(6, 1)}, (1, 6)),
        r"my_add.*\(1,\) and \(6,\)",
    ),
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
    "batch of two": (model([op("Relu", "x")], shape=(2, 3)), "input 'x': a batch dimension of one"),
    "no batch": (model([op("Relu", "x")], shape=(3,)), "input 'x': a batch dimension of one"),
    "free shape": (model([op("Relu", "x")], shape=(1, "n")), "input 'x': only the batch dimension"),
    "average without padding": (
        model([op("AveragePool", "x", kernel_shape=[2, 2], pads=[1, 1, 1, 1])]),
        "my_averagepool.*count_include_pad",
    ),
    "reflected padding": (
        model([op("Pad", "x", "p", mode="reflect")], {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])}),
        "my_pad.*reflect",
    ),
    "padding with ones": (
        model([op("Pad", "x", "p", "one")], {"p": np.array([0] * 8), "one": np.float32(1)}),
        "my_pad.*zeros",
    ),
    "cropping": (model([op("Pad", "x", "p")], {"p": np.array([0, 0, -1, 0, 0, 0, 0, 0])}), "my_pad.*cropping"),
    "batch moved": (model([op("Transpose", "x", perm=[1, 0, 2, 3])]), "my_transpose.*batch"),
    "reshape to another size": (model([op("Reshape", "x", "s")], {"s": np.array([1, 39])}), "my_reshape.*39"),
    "transposed A": (model([op("Gemm", "x", "w", transA=1)], {"w": values(1, 3)}, (1, 6)), "my_gemm.*transposed"),
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
    for path in (tmp_path / "missing.onnx", tmp_path):
        with pytest.raises(InputError, match="no such file") as caught:
            load(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("factor", [1.0, 1e6])
def test_load_compares_with_onnxruntime(factor: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Relu read as nothing is noticed, also next to a branch of large values that adds next to nothing."""
    monkeypatch.setitem(READERS, "Relu", lambda call: None)
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
    monkeypatch.setitem(READERS, "Gemm", lambda call: Linear(draw(6, 6), None, call.shape()))
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

PUBLIC = {
    "eran/nets/mnist_6x100.onnx": (10,),
    "eran/nets/cifar_convsmall.onnx": (10,),
    "vnncomp2021/acasxu/ACASXU_run2a_1_1_batch_2000.onnx": (5,),
    "vnncomp2021/cifar10_resnet/onnx/resnet_2b.onnx": (10,),
}


@pytest.mark.parametrize("name", PUBLIC, ids=lambda name: Path(name).stem)
def test_public_networks_load(name: str) -> None:
    if not (BENCHMARKS / name).is_file():
        pytest.skip(f"{name}: the folder shared/benchmarks is not next to this repository")
    assert load(BENCHMARKS / name).output.shape == PUBLIC[name]


def test_maximum_pooling_is_named() -> None:
    found = sorted((BENCHMARKS / "vnncomp2021").glob("**/Convnet_maxpool.onnx"))
    if not found:
        pytest.skip("the folder shared/benchmarks is not next to this repository")
    with pytest.raises(InputError, match=r"\(MaxPool\): operator not supported"):
        load(found[0])
