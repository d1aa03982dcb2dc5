"""Operators are the linear maps they claim to be, and networks survive the way through torch and ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import conv_module, dense_module, inputs, matrix, residual_module
from torch import Tensor, nn

from kreludomain.activations import Relu, Sigmoid, Tanh
from kreludomain.errors import InputError
from kreludomain.network import Network, Node, Runtime, from_torch, load, parse_onnx, to_onnx
from kreludomain.network.lowering import Decomposition, Window, average_pool, chain, clip, leaky_relu, max_pool
from kreludomain.network.operators import (
    Activation,
    AffineOperator,
    Concat,
    Convolution,
    Gather,
    Input,
    Linear,
    Pad,
    PairMaximum,
    Permute,
    Reshape,
    Scale,
    Shape,
    Sum,
    TransposedConvolution,
)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- operators ------------------------------------------------------------------------------------------------------

OPERATORS: dict[str, AffineOperator] = {
    "linear": Linear(draw(4, 6), draw(4), (6,)),
    "linear, last of three axes": Linear(draw(4, 5), draw(4), (2, 3, 5)),
    "conv": Convolution(draw(3, 2, 3, 3), draw(3), (2, 6, 7)),
    "conv, padded": Convolution(draw(3, 2, 3, 2), draw(3), (2, 5, 6), padding=(2, 1)),
    "conv, strided, border missed": Convolution(draw(3, 2, 2, 3), None, (2, 7, 8), stride=(2, 3)),
    "conv, dilated": Convolution(draw(3, 2, 2, 3), draw(3), (2, 7, 9), dilation=(2, 3), padding=(1, 2)),
    "conv, groups": Convolution(draw(6, 2, 3, 3), draw(6), (4, 5, 5), stride=(2, 1), padding=(1, 0), groups=2),
    "conv, everything odd": Convolution(draw(4, 1, 3, 2), draw(4), (2, 11, 8), (3, 2), (2, 1), (2, 1), 2),
    "conv of signals": Convolution(draw(4, 1, 3), draw(4), (2, 9), (2,), (1,), (2,), 2),
    "conv of volumes": Convolution(draw(2, 2, 2, 1, 2), None, (2, 3, 4, 3), (1, 2, 1), (1, 0, 0), (1, 1, 1)),
    "transposed conv": TransposedConvolution(draw(3, 2, 2, 3), draw(2), (3, 3, 2), (6, 9), (2, 3), (0, 0), (1, 2)),
    "transposed conv, groups": TransposedConvolution(draw(4, 1, 3), draw(2), (4, 5), (10,), (2,), (1,), (1,), 2),
    "scale": Scale(draw(3, 1, 1), draw(1, 4, 2), (3, 4, 2)),
    "shift by a scalar": Scale(torch.tensor(-1.0, dtype=torch.float64), draw(2), (3, 2)),
    "sum": Sum((1, -1, 1), (2, 3)),
    "difference that starts negative": Sum((-1, 1), (4,)),
    "reshape": Reshape((2, 3, 4), (6, 4)),
    "permute": Permute((2, 3, 4), (2, 0, 1)),
    "pad": Pad((2, 3, 4), (0, 1, 2), (1, 0, 3)),
    "selection": Gather((2, 3), torch.tensor([[5, 0], [2, 5], [1, 1]])),
    "selection with zeros": Gather((2, 3), torch.tensor([-1, 4, -1, 0])),
    "concat": Concat(((2, 3), (2, 1), (2, 2)), 1),
    "last step of a maximum": PairMaximum((2, 3)),
}

affine = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS.keys())


def matrices(operator: AffineOperator) -> list[Tensor]:
    """The explicit matrix of the operator for each of its inputs, the others at zero."""
    shapes = operator.in_shapes

    def part(position: int) -> Callable[[Tensor], Tensor]:
        return lambda x: operator.linear(
            *(x if i == position else x.new_zeros(len(x), *shape) for i, shape in enumerate(shapes))
        )

    return [matrix(part(i), shape) for i, shape in enumerate(shapes)]


@affine
def test_value_is_matrix_times_input_plus_offset(operator: AffineOperator) -> None:
    xs = [draw(3, *shape, seed=i + 1) for i, shape in enumerate(operator.in_shapes)]
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
    for got, w, shape in zip(operator.transpose(a), matrices(operator), operator.in_shapes, strict=True):
        assert got.shape == (5, *shape)
        torch.testing.assert_close(got.flatten(1), a.flatten(1) @ w)


@affine
def test_magnitude_is_the_absolute_matrix(operator: AffineOperator) -> None:
    radii = [draw(3, *shape, seed=i + 1).abs() for i, shape in enumerate(operator.in_shapes)]
    expected = sum(r.flatten(1) @ w.abs().T for r, w in zip(radii, matrices(operator), strict=True))
    torch.testing.assert_close(operator.abs_linear(*radii).flatten(1), expected)


@affine
def test_monomial_rows_have_one_entry(operator: AffineOperator) -> None:
    if operator.row_sparse:
        w = torch.cat(matrices(operator), dim=1)
        assert int((w != 0).sum(1).max()) <= 1


@affine
def test_backward_step_keeps_the_value(operator: AffineOperator) -> None:
    """a . (W x + b) = (W^T a) . x + c, over batches of regions and rows of objectives."""
    a = draw(2, 3, *operator.out_shape, seed=5)
    xs = [draw(2, *shape, seed=i + 1) for i, shape in enumerate(operator.in_shapes)]
    passed, constant = operator.backward(a)
    assert constant.shape == (2, 3)
    expected = torch.einsum("bmn,bn->bm", a.flatten(2), operator(*xs).flatten(1))
    got = constant + sum(
        torch.einsum("bmn,bn->bm", c.flatten(2), x.flatten(1)) for c, x in zip(passed, xs, strict=True)
    )
    torch.testing.assert_close(got, expected)


@st.composite
def convolutions(draw_: st.DrawFn) -> Convolution:
    """Convolutions with images large enough that single neurons take the windowed path of the transpose."""
    pair = lambda low, high: (draw_(st.integers(low, high)), draw_(st.integers(low, high)))  # noqa: E731
    groups, kernel, dilation = draw_(st.integers(1, 2)), pair(1, 3), pair(1, 2)
    stride, padding = pair(1, 3), pair(0, 2)
    size = tuple(d * (k - 1) + 1 + n for d, k, n in zip(dilation, kernel, pair(3, 9), strict=True))
    weight = draw(2 * groups, 2, *kernel, seed=draw_(st.integers(0, 99)))
    return Convolution(weight, None, (2 * groups, *size), stride, padding, dilation, groups)


@settings(max_examples=60, deadline=None)
@given(convolutions(), st.integers(0, 99), st.integers(1, 2))
def test_windowed_transpose_is_the_plain_one(operator: Convolution, seed: int, reach: int) -> None:
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
    assert isinstance(operator, Convolution)
    assert operator.transpose(torch.zeros(0, *operator.out_shape, dtype=torch.float64))[0].shape == (0, 2, 6, 7)


# ---- the graph ------------------------------------------------------------------------------------------------------


def test_nodes_that_a_node_depends_on() -> None:
    network = from_torch(residual_module(), (1, 5, 5))
    for name in network.pre_activations:
        above = network.ancestors(name)
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
        ((Node("y", Activation(Relu(), (2,)), ()),), "starts with its input"),
        ((Node("x", Input((2,))), Node("y", Activation(Relu(), (2,)), ("z",))), "'y'.*'z'"),
        ((Node("x", Input((2,))), Node("x", Activation(Relu(), (2,)), ("x",))), "two nodes"),
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


# ---- what is lowered ------------------------------------------------------------------------------------------------


def lowered(recipe: Decomposition, shape: Shape) -> Network:
    return Network((Node("x", Input(shape)), *recipe("y", "x")))


@pytest.mark.parametrize("slope", [0.0, 0.1, 1.0, 2.5, -0.5, torch.tensor([[0.1], [0.7]])])
def test_leaky_relu(slope: float | Tensor) -> None:
    x = draw(4, 2, 3)
    expected = torch.where(x > 0, x, torch.as_tensor(slope).double() * x)
    torch.testing.assert_close(lowered(leaky_relu((2, 3), slope), (2, 3))(x), expected)


@pytest.mark.parametrize(
    "sides", [(-1.0, 0.5), (0.2, 0.2), (0.0, torch.inf), (-torch.inf, -0.3), (-torch.inf, torch.inf)]
)
def test_clip(sides: tuple[float, float]) -> None:
    x = 2 * draw(4, 2, 3)
    torch.testing.assert_close(lowered(clip((2, 3), *sides), (2, 3))(x), x.clamp(*sides))


@pytest.mark.parametrize("sides", [(1.0, 0.5), (torch.nan, 1.0), (0.0, torch.nan), (torch.inf, torch.inf)])
def test_clipping_to_nothing(sides: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="clipping to"):
        clip((2,), *sides)


pair = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def poolings(draw_: st.DrawFn) -> dict[str, Any]:
    """Arguments of torch's poolings: padding at most half the kernel, images at least as large as the kernel."""
    kernel, stride = draw_(pair), draw_(pair)
    padding = tuple(draw_(st.integers(0, k // 2)) for k in kernel)
    return {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": draw_(st.booleans())}


@settings(max_examples=80, deadline=None)
@given(poolings(), st.integers(3, 7), st.integers(3, 7), pair, st.booleans())
def test_poolings_are_torch_s(
    arguments: dict[str, Any], height: int, width: int, dilation: tuple[int, int], padding: bool
) -> None:
    """Maxima of negative numbers, so that padding with zeros would be noticed; means with and without padding."""
    x = draw(2, 2, height, width)
    try:
        expected = nn.functional.max_pool2d(x - 5, **arguments, dilation=dilation)
    except RuntimeError:  # the window is larger than the image
        return
    shape, (above, beside) = (2, height, width), arguments["padding"]
    margins = ((above, above), (beside, beside))
    window = Window(arguments["kernel_size"], arguments["stride"], margins, dilation, arguments["ceil_mode"])
    torch.testing.assert_close(lowered(max_pool(shape, window), shape)(x - 5), expected)
    expected = nn.functional.avg_pool2d(x, **arguments, count_include_pad=padding)
    window = Window(arguments["kernel_size"], arguments["stride"], margins, (1, 1), arguments["ceil_mode"])
    torch.testing.assert_close(lowered(average_pool(shape, window, padding), shape)(x), expected)


def test_a_chain_names_its_parts() -> None:
    nodes = chain(Activation(Relu(), (2,)), Activation(Relu(), (2,)), Activation(Relu(), (2,)))("y", "x")
    assert [(n.name, n.inputs) for n in nodes] == [("y/1", ("x",)), ("y/2", ("y/1",)), ("y", ("y/2",))]


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
        y = y + x.sigmoid() - torch.tanh(y) + torch.sigmoid(y).tanh()
        y = y - torch.reshape(x, (-1, 18))
        return self.head(y.flatten(1))


def test_functions_of_a_forward() -> None:
    torch.manual_seed(0)
    module = Functions()
    network = from_torch(module, (1, 5, 5))
    x = inputs(network, 4)
    torch.testing.assert_close(network(x), module.double().eval()(x))


# ---- ONNX: round trip -----------------------------------------------------------------------------------------------


def pooling_module() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
        nn.LeakyReLU(0.2),
        nn.AvgPool2d((2, 1), stride=1, padding=(1, 0), count_include_pad=False),
        nn.Conv2d(2, 3, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(3, 2),
    )


def curved_module() -> nn.Module:
    torch.manual_seed(6)
    layers = (nn.Hardtanh(-0.5, 0.8), nn.ReLU6(), nn.Sigmoid(), nn.Tanh(), nn.LeakyReLU())
    return nn.Sequential(*(part for layer in layers for part in (nn.Linear(4, 4), layer)))


MODULES: dict[str, tuple[nn.Module, Shape]] = {
    "dense": (dense_module(4, 6, 6, 3, seed=1), (4,)),
    "conv": (conv_module(seed=2), (2, 6, 6)),
    "residual": (residual_module(seed=3), (1, 5, 5)),
    "functions": (Functions().eval(), (1, 5, 5)),
    "poolings": (pooling_module(), (2, 6, 7)),
    "clipped and curved": (curved_module(), (4,)),
}


@pytest.mark.parametrize(("module", "shape"), MODULES.values(), ids=MODULES.keys())
def test_round_trip_through_onnx(module: nn.Module, shape: Shape, tmp_path: Path) -> None:
    """torch -> network -> ONNX -> network: the same values up to float32 weights, and onnxruntime's."""
    network = from_torch(module, shape)
    path = tmp_path / "network.onnx"
    path.write_bytes(to_onnx(network))
    again, x = load(path), inputs(network, 5)
    assert again.model is not None
    assert again.model.graph == path.read_bytes()
    torch.testing.assert_close(again(x), network(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(Runtime(again)(x).double(), again(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(Runtime(network)(x).float(), Runtime(again)(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sign", [1, -1])
def test_every_operator_survives_the_writer(sign: int) -> None:
    """The operators no torch module makes: permuting, asymmetric padding, three summands, a leading minus."""
    nodes = (
        Node("x", Input((2, 3, 4))),
        Node("pad", Pad((2, 3, 4), (0, 1, 0), (0, 0, 2)), ("x",)),
        Node("permute", Permute((2, 4, 6), (2, 0, 1)), ("pad",)),
        Node("linear", Linear(draw(4, 4), draw(4), (6, 2, 4)), ("permute",)),
        Node("relu", Activation(Relu(), (6, 2, 4)), ("linear",)),
        Node("scale", Scale(draw(6, 1, 1), draw(4), (6, 2, 4)), ("permute",)),
        Node("bare", Scale(draw(1), None, (6, 2, 4)), ("scale",)),
        Node("sum", Sum((sign, 1, -1), (6, 2, 4)), ("relu", "bare", "permute")),
        Node("again", Gather((6, 2, 4), torch.tensor([5, -1, 47, 0, 5])), ("sum",)),
        Node("sigmoid", Activation(Sigmoid(), (6, 2, 4)), ("sum",)),
        Node("tanh", Activation(Tanh(), (6, 2, 4)), ("sigmoid",)),
        Node("reshape", Reshape((6, 2, 4), (48,)), ("tanh",)),
        Node("joined", Concat(((48,), (5,)), 0), ("reshape", "again")),
        Node("product", Linear(draw(3, 53), None, (53,)), ("joined",)),
    )
    network = Network(nodes)
    x = inputs(network, 3)
    torch.testing.assert_close(Runtime(network)(x).double(), network(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(parse_onnx(to_onnx(network))(x), network(x), rtol=1e-4, atol=1e-4)
