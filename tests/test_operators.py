"""Models of one ONNX operator each, over a table of forms: values against onnxruntime, bounds against the matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from networks import inputs
from onnx import TensorProto, helper
from test_onnx import CASES, model, op, values

import kreludomain as kd
from kreludomain.network import Network, Runtime, parse_onnx, to_onnx
from kreludomain.network.onnx.operators import READERS

IMAGE = (1, 2, 4, 5)


def case(
    kind: str, constants: dict[str, Any] | None = None, shape: Sequence[int] = IMAGE, opset: int = 17, **attributes: Any
) -> bytes:
    """One operator: of ``x`` first, then of the constants in their order, unless one of them is ``x`` or empty."""
    given = constants or {}
    names = list(given) if "x" in given else ["x", *given]
    names = ["" if name.startswith("_") else name for name in names]
    return model([op(kind, *names, **attributes)], {n: v for n, v in given.items() if v is not None}, shape, opset)


def split(
    outputs: int, chosen: int, constants: dict[str, Any] | None = None, opset: int = 17, **attributes: Any
) -> bytes:
    """A Split, of whose outputs one is the model's."""
    names = ["y" if i == chosen else f"other{i}" for i in range(outputs)]
    node = helper.make_node("Split", ["x", *(constants or {})], names, name="my_split", **attributes)
    return model([node], constants, IMAGE, opset)


def twice(kind: str, *more: str, constants: dict[str, Any] | None = None, opset: int = 17, **attributes: Any) -> bytes:
    """An operator of ``x``, of the sum of its rows, and of constants."""
    nodes = [
        op("ReduceSum", "x", "a", output="s"),
        op("Sub", "s", "d", output="t"),
        op(kind, "x", "t", *more, **attributes),
    ]
    return model(nodes, {"a": np.array([2]), "d": values(2, 1, 5), **(constants or {})}, IMAGE, opset)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)


def reductions() -> Iterator[tuple[str, bytes]]:
    for kind in ("ReduceL1", "ReduceMax", "ReduceMean", "ReduceMin"):
        yield kind, case(kind, axes=[2, 3], opset=13)
        yield kind, case(kind, axes=[1], keepdims=0, opset=11)
        yield kind, case(kind, {"a": ints(-1, 1)}, opset=18, keepdims=0)
        yield kind, case(kind, opset=18)
        yield kind, case(kind, {"a": ints(0, 2)}, opset=20)
        yield kind, case(kind, {"a": ints(1)}, (1, 7), opset=18, keepdims=0)
        yield kind, case(kind, {"a": ints()}, (1, 3), opset=18, noop_with_empty_axes=1)
        yield kind, case(kind, {"a": ints(0)}, (4, 3), opset=18, keepdims=0)
    yield "ReduceSum", case("ReduceSum", axes=[-1], opset=11)
    yield "ReduceSum", case("ReduceSum", {"a": ints(1, 2)}, opset=13, keepdims=0)
    yield "ReduceSum", case("ReduceSum", opset=13)
    for exclusive in (0, 1):
        for reverse in (0, 1):
            yield "CumSum", case("CumSum", {"a": np.array(2)}, exclusive=exclusive, reverse=reverse)
    yield "CumSum", case("CumSum", {"a": np.array(-1)}, (1, 6))


def several() -> Iterator[tuple[str, bytes]]:
    c, d = values(5), values(2, 1, 1)
    for kind in ("Max", "Min", "Mean", "Sum"):
        yield kind, case(kind, {"c": c})
        yield kind, case(kind, {"c": c, "x": None, "d": d})
        yield kind, case(kind, {"c": np.float32(0)}, (1, 6))
        yield kind, case(kind)
        yield kind, twice(kind, "c", constants={"c": c})
        yield kind, twice(kind, "x")
    yield "Max", case("Max", {"c": np.array([0, -np.inf, 1, -np.inf, 0.5])})
    yield "Clip", case("Clip", {"_": None, "u": np.float32(0)}, opset=13)
    yield "Clip", case("Clip", {"l": np.float32(0)}, opset=13)


def selections() -> Iterator[tuple[str, bytes]]:
    for chosen in (0, 1):
        yield "Split", split(2, chosen, axis=2, opset=11)
        yield "Split", split(2, chosen, axis=-1, split=[4, 1], opset=8)
        yield "Split", split(2, chosen, {"s": ints(1, 3)}, axis=2, opset=13)
        yield "Split", split(2, chosen, axis=3, num_outputs=2, opset=18)
    yield "Expand", case("Expand", {"s": ints(2, 1, 3, 1)}, (1, 3, 4))
    yield "Expand", case("Expand", {"s": ints(1)}, (2, 3))
    yield "Tile", case("Tile", {"r": ints(1, 3, 1, 2)})
    yield "DepthToSpace", case("DepthToSpace", shape=(1, 8, 2, 3), blocksize=2)
    yield "DepthToSpace", case("DepthToSpace", shape=(1, 8, 2, 3), blocksize=2, mode="CRD", opset=11)
    yield "SpaceToDepth", case("SpaceToDepth", shape=(1, 2, 4, 6), blocksize=2)
    yield "GatherElements", case("GatherElements", {"i": np.array([[[[1, -1, 0], [2, 2, 3]]]])}, axis=2)
    yield "GatherND", case("GatherND", {"i": np.array([[0, 1, -1], [0, 0, 2]])})
    yield "GatherND", case("GatherND", {"i": np.array([[[1, 0], [3, -4]]])}, batch_dims=1, opset=13, shape=(1, 4, 5))
    where = np.array([[1, 0, 0, 1, 0]], dtype=bool)
    yield "Where", case("Where", {"c": where, "x": None, "d": values(2, 1, 5)})
    yield "Where", case("Where", {"c": where, "d": np.float32(2), "x": None})
    nodes = [op("Neg", "x", output="n"), op("Where", "c", "x", "n")]
    yield "Where", model(nodes, {"c": where})
    index = np.array([[0, 1, 2], [0, 0, -1]])
    yield "ScatterND", case("ScatterND", {"i": index, "u": values(2, 5)})
    nodes = [op("Slice", "x", "s", "e", output="part"), op("ScatterND", "x", "i", "t")]
    nodes.insert(1, op("Reshape", "part", "r", output="t"))
    yield "ScatterND", model(nodes, {"i": index, "s": ints(0, 0, 0), "e": ints(1, 1, 2), "r": ints(2, 5)})
    elements = {"i": np.array([[[[0, 3]]]]), "u": values(1, 1, 1, 2)}
    yield "ScatterElements", case("ScatterElements", elements, axis=3)
    yield "Scatter", case("Scatter", elements, axis=-1, opset=9)
    yield "Trilu", case("Trilu", {"k": np.array(1)})
    yield "Trilu", case("Trilu", upper=0)
    yield "Compress", case("Compress", {"c": np.array([True, False, True])}, axis=2)
    yield "Compress", case("Compress", {"c": np.array([True, False, True])}, (2, 3))
    lengths = {"l": ints(3, 1)}
    yield "ReverseSequence", case("ReverseSequence", lengths, (2, 4, 3), batch_axis=0, time_axis=1)


def images() -> Iterator[tuple[str, bytes]]:
    line, box = (1, 2, 9), (1, 2, 4, 5, 3)
    yield "Conv", case("Conv", {"w": values(3, 2, 4), "b": values(3)}, line, pads=[2, 1], strides=[2])
    yield "Conv", case("Conv", {"w": values(4, 1, 3)}, line, group=2, strides=[2], auto_pad="SAME_LOWER")
    yield "Conv", case("Conv", {"w": values(3, 2, 2, 3, 2), "b": values(3)}, box, pads=[1, 0, 1, 0, 1, 1])
    for kind in ("AveragePool", "MaxPool"):
        yield kind, case(kind, shape=line, kernel_shape=[3], strides=[2], pads=[1, 0])
        yield kind, case(kind, shape=line, kernel_shape=[4], strides=[3], ceil_mode=1, opset=11)
        yield kind, case(kind, shape=box, kernel_shape=[2, 3, 1], strides=[1, 2, 2])
        yield kind, case(kind, shape=line, kernel_shape=[4], auto_pad="SAME_UPPER")
        yield f"Global{kind}", case(f"Global{kind}", shape=line)
        yield f"Global{kind}", case(f"Global{kind}", shape=box)
    yield "AveragePool", case("AveragePool", shape=line, kernel_shape=[3], pads=[1, 2], count_include_pad=1)
    w, b = values(2, 3, 3, 2), values(3)
    yield "ConvTranspose", case("ConvTranspose", {"w": w, "b": b})
    yield "ConvTranspose", case("ConvTranspose", {"w": w}, strides=[2, 3], output_padding=[1, 2])
    yield "ConvTranspose", case("ConvTranspose", {"w": w, "b": b}, strides=[2, 2], pads=[1, 0, 0, 1])
    yield "ConvTranspose", case("ConvTranspose", {"w": w}, strides=[2, 3], pads=[1, 1, 1, 1], dilations=[2, 1])
    yield "ConvTranspose", case("ConvTranspose", {"w": w}, strides=[2, 3], auto_pad="SAME_UPPER")
    yield "ConvTranspose", case("ConvTranspose", {"w": w}, strides=[2, 3], auto_pad="SAME_LOWER")
    yield "ConvTranspose", case("ConvTranspose", {"w": w, "b": b}, strides=[3, 3], output_shape=[10, 12])
    yield "ConvTranspose", case("ConvTranspose", {"w": w, "b": b}, strides=[3, 3], output_shape=[13, 15])
    yield "ConvTranspose", case("ConvTranspose", {"w": values(2, 2, 3, 1), "b": values(4)}, group=2)
    yield "ConvTranspose", case("ConvTranspose", {"w": values(2, 3, 4)}, line, strides=[3], dilations=[2])
    yield "ConvTranspose", case("ConvTranspose", {"w": values(2, 1, 2, 2, 2)}, box, strides=[2, 2, 2])


def resizes() -> Iterator[tuple[str, bytes]]:
    half = {"roi": np.zeros(0, dtype=np.float32), "scales": np.array([1, 1, 1.5, 0.7], dtype=np.float32)}
    to = {"_": None, "__": None, "sizes": ints(1, 2, 7, 3)}
    for transform in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"):
        for near in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
            options = {"mode": "nearest", "nearest_mode": near, "coordinate_transformation_mode": transform}
            yield "Resize", case("Resize", half, opset=19, **options)
        for mode in ("linear", "cubic"):
            options = {"mode": mode, "coordinate_transformation_mode": transform}
            yield "Resize", case("Resize", half, opset=19, **options)
            yield "Resize", case("Resize", to, opset=19, **options)
    yield "Resize", case("Resize", {"scales": np.array([1, 1, 2, 3], dtype=np.float32)}, opset=10)
    yield "Resize", case("Resize", half, opset=11, mode="linear")
    yield "Resize", case("Resize", half, opset=13, mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5)
    yield "Resize", case("Resize", {"_": None, "scales": np.ones(4, dtype=np.float32)}, opset=13)
    yield (
        "Resize",
        case("Resize", {"_": None, "__": None, "sizes": ints(2, 2)}, opset=18, axes=[2, 3], antialias=1, mode="linear"),
    )
    crop = {"roi": np.array([0, 0, 0.2, 0.1, 1, 1, 0.9, 0.8], dtype=np.float32), "_": None, "sizes": ints(1, 2, 3, 4)}
    yield "Resize", case("Resize", crop, opset=13, mode="linear", coordinate_transformation_mode="tf_crop_and_resize")
    yield "Upsample", case("Upsample", opset=8, scales=[1.0, 1.0, 2.0, 3.0])
    yield "Upsample", case("Upsample", {"s": np.array([1, 1, 2, 2], dtype=np.float32)}, opset=9, mode="linear")


def products() -> Iterator[tuple[str, bytes]]:
    w, c = values(5, 6), values(3, 6)
    for trans_a in (0, 1):
        for trans_b in (0, 1):
            options = {"transA": trans_a, "transB": trans_b, "alpha": 0.5, "beta": 2.0}
            right = {"w": w.T if trans_b else w, "c": c}
            yield "Gemm", case("Gemm", right, (5, 3) if trans_a else (3, 5), **options)
            left = {"w": w.T if trans_a else w, "x": None, "c": values(5, 1)}
            yield "Gemm", case("Gemm", left, (3, 6) if trans_b else (6, 3), **options)
    nodes = [op("Neg", "x", output="n"), op("Gemm", "x", "w", "n", beta=3.0)]
    yield "Gemm", model(nodes, {"w": values(4, 4)}, (1, 4))
    yield "MatMul", case("MatMul", {"w": values(2, 5, 3)})
    yield "MatMul", case("MatMul", {"w": values(3, 1, 5, 3)}, (2, 4, 5))
    yield "MatMul", case("MatMul", {"w": values(2, 3, 4), "x": None})
    yield "MatMul", case("MatMul", {"w": values(2, 4, 3)}, (4,))
    yield "MatMul", case("MatMul", {"w": values(4), "x": None}, (2, 4, 3))
    for equation, shape in (
        ("btc,ck->btk", (5, 6)),
        ("btc,tck->bkt", (4, 5, 6)),
        ("btc,tc->bt", (4, 5)),
        ("btc,ck->k", (5, 6)),
        ("...c,c", (5,)),
        ("b...c,kc->b...k", (3, 5)),
        ("btc,t->btc", (4,)),
        ("btc,t->cbt", (4,)),
        ("btc,kj->tb", (2, 3)),
        ("btc,k->bkct", (2,)),
    ):
        yield "Einsum", case("Einsum", {"w": values(*shape)}, (2, 4, 5), equation=equation)
    yield "Einsum", case("Einsum", {"w": values(3, 4), "x": None}, (4, 5), equation="ij, jk -> ik")
    yield "Einsum", case("Einsum", {"v": values(2, 3), "x": None, "w": values(5)}, (3, 5), equation="ij,jk,k->i")
    yield "Einsum", case("Einsum", shape=(3, 3, 2), equation="iik->ki")
    yield "Einsum", case("Einsum", shape=(3, 2), equation="ij->j")


def entrywise() -> Iterator[tuple[str, bytes]]:
    yield "Abs", case("Abs")
    yield "HardSigmoid", case("HardSigmoid")
    yield "HardSigmoid", case("HardSigmoid", alpha=1 / 6, beta=0.25, opset=8)
    yield "Cast", case("Cast", to=TensorProto.FLOAT)
    yield "CastLike", case("CastLike", {"c": np.float32(0)}, opset=15)


def spelled_out() -> Iterator[tuple[str, bytes]]:
    """Functions of one number that several operators make up."""
    zero, tenth, six = np.float32(0), np.float32(0.1), np.float32(6)
    for kind in ("Greater", "GreaterOrEqual"):
        nodes = [op(kind, "x", "z", output="c"), op("Where", "c", "x", "z")]
        yield kind, model(nodes, {"z": zero})
    row = {"t": values(5)}
    yield "Greater", model([op("Greater", "x", "t", output="c"), op("Where", "c", "x", "t")], row)
    double = [op("Add", "x", "x", output="d"), op("Sub", "d", "t", output="e"), op("Greater", "e", "x", output="c")]
    yield "Where", model([*double, op("Where", "c", "e", "x")], row)
    nodes = [op("LessOrEqual", "x", "t", output="c"), op("Where", "c", "t", "x")]
    yield "LessOrEqual", model(nodes, {"t": tenth})
    nodes = [op("Less", "x", "z", output="c"), op("Mul", "x", "t", output="s"), op("Where", "c", "s", "x")]
    yield "Less", model(nodes, {"z": zero, "t": tenth})
    mask = [op("Greater", "x", "z", output="c"), op("Not", "c", output="n"), op("Cast", "n", output="m", to=1)]
    yield "Not", model([*mask, op("Mul", "m", "x")], {"z": zero})
    shrink = [
        op("Neg", "t", output="u"),
        op("Greater", "x", "t", output="c"),
        op("Sub", "x", "t", output="above"),
        op("Less", "x", "u", output="d"),
        op("Add", "x", "t", output="below"),
    ]
    nested = [op("Where", "d", "below", "z", output="w"), helper.make_node("Where", ["c", "above", "w"], ["y"])]
    yield "Where", model([*shrink, *nested], {"z": zero, "t": tenth})
    outside = [
        op("Or", "c", "d", output="e"),
        op("Clip", "x", "u", "t", output="k"),
        op("Sub", "x", "k", output="s"),
        op("Where", "e", "s", "z"),
    ]
    yield "Or", model([*shrink[:2], shrink[3], *outside], {"z": zero, "t": tenth})
    both = [op("Greater", "x", "z", output="c"), op("Less", "x", "t", output="d"), op("And", "c", "d", output="e")]
    bump = [
        op("Sub", "t", "x", output="r"),
        op("Min", "x", "r", output="h"),
        op("Where", "e", "h", "z"),
    ]
    yield "And", model([*both, *bump], {"z": zero, "t": tenth})
    silu = [helper.make_node("Mul", ["x", "b"], ["s"]), op("Sigmoid", "s", output="g"), op("Mul", "x", "g")]
    yield "Mul", model(silu, {"b": np.float32(1.702)})
    gelu = [
        op("Div", "x", "r", output="s"),
        op("Erf", "s", output="e"),
        op("Add", "e", "o", output="a"),
        helper.make_node("Mul", ["x", "a"], ["p"]),
        op("Mul", "p", "h"),
    ]
    constants = {"r": np.float32(np.sqrt(2)), "o": np.float32(1), "h": np.float32(0.5)}
    yield "Mul", model(gelu, constants)
    half_first = [helper.make_node("Mul", ["x", "h"], ["q"]), *gelu[:3], op("Mul", "q", "a")]
    yield "Mul", model(half_first, constants)
    mish = [op("Softplus", "x", output="s"), op("Tanh", "s", output="t"), op("Mul", "t", "x")]
    yield "Mul", model(mish)
    hard = [op("HardSigmoid", "x", output="g", alpha=1 / 6, beta=0.5), op("Mul", "x", "g")]
    yield "Mul", model(hard)
    hard = [
        op("Add", "x", "t", output="a"),
        op("Clip", "a", "z", "s", output="c"),
        op("Mul", "x", "c", output="p"),
        op("Div", "p", "s"),
    ]
    yield "Mul", model(hard, {"t": np.float32(3), "z": zero, "s": six})
    softsign = [op("Abs", "x", output="a"), op("Add", "a", "o", output="d"), op("Div", "x", "d")]
    yield "Div", model(softsign, constants)
    beyond = [
        helper.make_node("Mul", ["x", "two"], ["s"]),
        op("Softplus", "s", output="p"),
        op("Div", "p", "two", output="q"),
        op("Greater", "s", "far", output="c"),
        op("Where", "c", "x", "q"),
    ]
    yield "Where", model(beyond, {"two": np.float32(2), "far": np.float32(20)})
    yield "Log", model([op("Sigmoid", "x", output="s"), op("Log", "s")])
    yield "Celu", case("Celu", alpha=1.5)
    yield "Elu", case("Elu", alpha=1.5)
    yield "Selu", case("Selu")
    yield "Swish", case("Swish", alpha=1.5, opset=24)
    yield "Gelu", case("Gelu", approximate="tanh", opset=20)


#: Models with conditions that jump, or might.
JUMPS = {
    "branches that do not meet": [op("Greater", "x", "t", output="c"), op("Where", "c", "x", "z")],
    "thresholds of which one jumps": [op("Greater", "x", "row", output="c"), op("Where", "c", "x", "other")],
    "a mask": [op("Greater", "x", "t", output="c"), op("Cast", "c", output="m", to=1), op("Mul", "m", "x")],
    "a mask alone": [op("Greater", "x", "z", output="c"), op("Cast", "c", output="m", to=1), op("Mul", "m", "t")],
    "a mask as a number": [op("Greater", "x", "z", output="c"), op("Cast", "c", output="m", to=1), op("Add", "m", "x")],
    "a choice of conditions": [op("Greater", "x", "z", output="c"), op("Where", "c", "c", "c")],
    "the output": [op("Greater", "x", "z")],
    "another value": [op("Relu", "x", output="r"), op("Greater", "x", "t", output="c"), op("Where", "c", "r", "z")],
    "a step of its own": [
        op("Sigmoid", "x", output="s"),
        op("Greater", "x", "z", output="c"),
        op("Where", "c", "s", "z"),
    ],
}


@pytest.mark.parametrize("nodes", JUMPS.values(), ids=JUMPS.keys())
def test_what_jumps_is_refused(nodes: list[onnx.NodeProto]) -> None:
    row = np.arange(5.0)
    constants = {"z": np.float32(0), "t": np.float32(0.1), "row": row, "other": row + np.array([0, 0, 0, 1e-6, 0])}
    with pytest.raises(kd.InputError, match=r"jump|BOOL"):
        parse_onnx(model(nodes, constants))


TABLE = [*reductions(), *several(), *selections(), *images(), *resizes(), *products(), *entrywise(), *spelled_out()]


def test_every_reader_has_a_case() -> None:
    assert {kind for kind, _ in (*CASES, *TABLE)} == set(READERS)


def matrix(network: Network) -> torch.Tensor:
    """The matrix ``(outputs, inputs)`` of an affine network."""
    size = network.size(network.input.name)
    units = torch.eye(size, dtype=torch.float64).reshape(size, *network.input.shape)
    return (network(units) - network(torch.zeros_like(units))).flatten(1).T


@pytest.mark.parametrize(("kind", "data"), TABLE, ids=[f"{kind}-{i}" for i, (kind, _) in enumerate(TABLE)])
def test_operator(kind: str, data: bytes) -> None:
    """Values are onnxruntime's, as read and as written again; bounds hold, and are exact where all is affine."""
    network = parse_onnx(data)
    x = inputs(network, 3)
    expected = Runtime(network)(x).double()
    for read in (network, parse_onnx(to_onnx(network))):
        torch.testing.assert_close(read(x), expected, rtol=1e-4, atol=1e-5)
    region = kd.ball(x[:1], 0.3)
    values = network(torch.cat([region.sample(50, torch.Generator().manual_seed(0)), x[:1] - 0.3, x[:1] + 0.3]))
    for method in ("interval", "deeppoly"):
        bounds = kd.bounds(network, region, method)[network.output.name]
        assert (bounds.lower <= values + 1e-12).all()
        assert (bounds.upper >= values - 1e-12).all()
    if not network.activations:
        centre, reach = network(x[:1]).flatten(), matrix(network).abs().sum(1) * 0.3
        torch.testing.assert_close(bounds.lower.flatten(), centre - reach, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(bounds.upper.flatten(), centre + reach, rtol=1e-9, atol=1e-9)
