"""Networks that end in a Softmax, a sigmoid or a label: what their outputs are asked is asked of the logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from networks import inputs
from onnx import TensorProto, helper, numpy_helper
from test_onnx import model, op, values
from torch import Tensor

import kreludomain as kd
from kreludomain.errors import InputError
from kreludomain.network import Network, Runtime, load, parse_onnx, with_input
from kreludomain.property.logits import at_logits
from kreludomain.property.vnnlib import parse_vnnlib
from kreludomain.run.vnncomp.instance import solve
from kreludomain.verify import make_method

W = {"w": values(4, 3), "b": values(3)}
BODY = [op("Relu", "x", output="r"), op("Gemm", "r", "w", "b", output="z")]


def ending(*nodes: onnx.NodeProto, opset: int = 17, **constants: object) -> Network:
    return parse_onnx(model([*BODY, *nodes], {**W, **constants}, ("n", 4), opset))


LOGITS = ending(op("Identity", "z"))
SOFTMAX = {
    "plain": ending(op("Softmax", "z")),
    "of axis 1": ending(op("Softmax", "z", axis=1), opset=11),
    "by default": ending(op("Softmax", "z"), opset=7),
    "reshaped": ending(op("Softmax", "z", axis=1, output="s"), op("Reshape", "s", "shape"), shape=[-1]),
    "cast": ending(op("Softmax", "z", output="s"), op("Cast", "s", output="t", to=11), op("Identity", "t")),
}


@pytest.mark.parametrize("network", SOFTMAX.values(), ids=SOFTMAX.keys())
def test_a_last_softmax_is_read_up_to_its_logits(network: Network) -> None:
    x = inputs(LOGITS, 5)
    torch.testing.assert_close(network(x), LOGITS(x), rtol=0, atol=0)
    torch.testing.assert_close(Runtime(network)(x).float(), Runtime(LOGITS)(x))
    whole = Runtime(network, whole=True)(x)
    torch.testing.assert_close(whole.double(), LOGITS(x).softmax(1), rtol=1e-5, atol=1e-6)
    (note,) = network.notes
    assert "Softmax (node 'my_softmax') is left out" in note
    assert not LOGITS.notes


def probabilities(kind: str, z: Tensor) -> Tensor:
    return {"Softmax": z.softmax(1), "LogSoftmax": z.log_softmax(1), "Sigmoid": z.sigmoid()}[kind]


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax", "Sigmoid"])
@pytest.mark.parametrize("classes", [2, 3])
def test_claims_hold_at_the_logits_where_they_hold_at_the_outputs(kind: str, classes: int) -> None:
    """Every row of small coefficients is refused (a sigmoid's stays as it is), or has the same sign everywhere."""
    size = {"w": W["w"][:, :classes], "b": W["b"][:classes]}
    network = parse_onnx(model([*BODY, op(kind, "z")], size, (1, 4)))
    plain = parse_onnx(model([*BODY, op("Identity", "z")], size, (1, 4)))
    z = plain(3 * inputs(plain, 50))
    outputs, asked = probabilities(kind, z), 0
    coefficients = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * classes, torch.tensor([-0.5, 0.0, 0.5]))
    for row in coefficients.double():
        claim = kd.claim(row[None, :-1], row[-1:])
        try:
            logits, (found,) = at_logits(network, [claim])
        except InputError as error:
            assert "claim: row 0 (" in str(error)  # noqa: PT017
            continue
        if kind == "Sigmoid" and logits is network:
            continue
        asked += 1
        before, after = claim.margins(outputs), found.margins(z)
        unsure = before.abs() < 1e-9
        assert bool(((before.sign() == after.sign()) | unsure).all()), row
    assert asked >= {"Softmax": 2, "LogSoftmax": 6, "Sigmoid": 2}[kind] * (classes - 1)


def test_what_a_softmax_cannot_be_asked_is_refused_in_a_line(tmp_path: Path) -> None:
    network, region = SOFTMAX["plain"], kd.box(torch.zeros(4), torch.ones(4))
    claim = kd.claim(torch.tensor([[1.0, 0, 0]]).double(), torch.tensor([-0.25]).double())
    message = r"claim: row 0 \(1 Y_0 - 0.25 > 0\) is about the outputs of the last Softmax \(node 'my_softmax'\)"
    with pytest.raises(InputError, match=message):
        kd.certify(network, region, claim)
    text = "".join(f"(declare-const X_{i} Real)(assert (>= X_{i} 0))(assert (<= X_{i} 1))" for i in range(4))
    text += "(declare-const Y_0 Real)(assert (>= Y_0 0.25))"
    with pytest.raises(InputError, match="only which of two outputs is larger"):
        kd.decide(network, parse_vnnlib(text, network))
    with pytest.raises(InputError, match="Y_0: the file's output is a class"):
        parse_vnnlib(text, ending(op("ArgMax", "z", axis=1)))
    with pytest.raises(InputError, match="inputs and outputs cannot be compared: the last Softmax"):
        with_input(network)


def test_a_softmax_compares_the_entries_of_its_own_axis() -> None:
    """Over the rows of a matrix: entries of a column are compared, others are not."""
    nodes = [op("Relu", "x", output="r"), op("Softmax", "r", axis=1)]
    network = parse_onnx(model(nodes, shape=(1, 2, 3)))
    rows = torch.zeros(2, 6).double()
    rows[0, [0, 3]], rows[1, [0, 1]] = torch.tensor([1.0, -1.0]).double(), torch.tensor([1.0, -1.0]).double()
    assert at_logits(network, [kd.claim(rows[:1])])[1][0].C.equal(rows[:1])
    with pytest.raises(InputError, match="claim: row 1"):
        at_logits(network, [kd.claim(rows)])
    for shape, axis in (((1, 1), 1), ((1, 3), 0)):
        with pytest.raises(InputError, match=r"'my_softmax' \(Softmax\): is over an axis of one entry"):
            parse_onnx(model([op("Softmax", "x", axis=axis)], shape=shape))


@pytest.mark.parametrize("kind", ["Softmax", "Sigmoid"])
def test_outputs_that_float32_cannot_tell_apart_are_decided_by_their_logits(kind: str, tmp_path: Path) -> None:
    """Both outputs are rounded to the same number, and one logit is the larger everywhere: no counterexample."""
    path = tmp_path / "saturated.onnx"
    shift = np.array([90.0, 89.0]) if kind == "Sigmoid" else np.array([1e-8, 0.0])
    path.write_bytes(
        model(
            [op("Mul", "x", "s", output="z"), op("Add", "z", "b", output="a"), op(kind, "a")],
            {"s": np.array([0.5, 0.5]), "b": shift},
            (1, 2),
        )
    )
    network, region = load(path), kd.box(torch.zeros(2), torch.zeros(2))
    whole = Runtime(network, whole=True)(torch.zeros(1, 2))
    assert bool(whole[0, 0] == whole[0, 1])
    for method in ("deeppoly", "complete"):
        assert kd.certify(network, region, kd.robustness(0, 2), method).verdict == "verified"
        assert kd.certify(network, region, kd.robustness(1, 2), method).verdict == "falsified"


def test_a_sigmoid_is_asked_of_its_logit_or_of_itself() -> None:
    """One output: above 1/2 is above 0. Another threshold is the sigmoid's own, with bounds of it."""
    one = parse_onnx(
        model(
            [*BODY, op("Sigmoid", "z", output="s"), op("Squeeze", "s")], {"w": W["w"][:, :1], "b": W["b"][:1]}, (1, 4)
        )
    )
    x = inputs(one, 1)
    value, region = float(one(x)), kd.ball(x[0], 0.01)
    side = 1.0 if value > 0.5 else -1.0
    C, half = torch.tensor([[side]]).double(), torch.tensor([-side / 2]).double()
    found = kd.certify(one, region, kd.claim(C, half), "deeppoly")
    assert found.verdict == "verified"
    assert float(found.lower_bounds) > abs(value - 0.5)  # of the logit
    bounds = found.bounds[one.output.name]
    assert 0 <= float(bounds.lower) <= value <= float(bounds.upper) <= 1  # of the output
    close = torch.tensor([-side * (value - side * 0.1)]).double()
    assert kd.certify(one, region, kd.claim(C, close), "deeppoly").verdict == "verified"
    assert kd.certify(one, region, kd.claim(C, torch.tensor([-2.0]).double()), "deeppoly").verdict == "falsified"


def test_counterexamples_have_the_outputs_of_the_whole_file(tmp_path: Path) -> None:
    path, spec = tmp_path / "n.onnx", tmp_path / "p.vnnlib"
    path.write_bytes(model([*BODY, op("Softmax", "z")], W, (1, 4)))
    text = "".join(f"(declare-const X_{i} Real)(assert (>= X_{i} -3))(assert (<= X_{i} 3))" for i in range(4))
    spec.write_text(text + "(declare-const Y_0 Real)(declare-const Y_1 Real)(assert (>= Y_0 Y_1))")
    found = solve(make_method("complete"), False, path, spec, 20.0)
    assert found.word == "sat"
    numbers = [float(line.split()[1].rstrip(")")) for line in found.text.splitlines() if "Y_" in line]
    assert len(numbers) == 3
    assert math.isclose(sum(numbers), 1.0, rel_tol=1e-5)
    assert numbers[0] >= numbers[1]


# ---- scikit-learn, as skl2onnx writes it ----------------------------------------------------------------------------


def ml(kind: str, source: str, *outputs: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, [source], list(outputs), name=f"my_{kind.lower()}", domain="ai.onnx.ml", **attributes)


def classifier(
    *nodes: onnx.NodeProto, outputs: Sequence[onnx.ValueInfoProto], constants: dict[str, np.ndarray] | None = None
) -> bytes:
    tensors = [numpy_helper.from_array(v, n) for n, v in (constants or {}).items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    named = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    for position, node in enumerate(named):
        node.name = node.name if node.domain else f"{node.name}_{position}"
    graph = helper.make_graph(named, "pipeline", [x], list(outputs), tensors)
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def info(name: str, kind: int = TensorProto.FLOAT, width: int | None = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["n"] if width is None else ["n", width])


def map_info(name: str) -> onnx.ValueInfoProto:
    key = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    return helper.make_value_info(name, helper.make_sequence_type_proto(key))


SCALER = ml("Scaler", "x", "v", offset=[0.1, 0.2, 0.3, 0.4], scale=[1.0, 2.0, 0.5, 1.5])
LABEL = info("label", TensorProto.INT64)


def linear_classifier(classes: int, transform: str, source: str = "v") -> onnx.NodeProto:
    return ml(
        "LinearClassifier",
        source,
        "label",
        "scores",
        classlabels_ints=list(range(classes)),
        coefficients=values(classes, 4).ravel().tolist(),
        intercepts=values(classes).tolist(),
        post_transform=transform,
    )


MLP = [
    op("MatMul", "v", "w", output="m"),
    op("Relu", "m", output="r"),
    op("MatMul", "r", "u", output="z"),
]
NAMED = [
    op("ArgMax", "p", output="top", axis=1),
    helper.make_node("ArrayFeatureExtractor", ["classes", "top"], ["names"], domain="ai.onnx.ml", name="names"),
    op("Reshape", "names", "flat", output="label"),
]
ONE = op("Sub", "one", "q", output="other")
WEIGHTS = {
    "w": values(4, 6).astype(np.float32),
    "u": values(6, 3).astype(np.float32),
    "classes": np.array([0, 1, 2], dtype=np.int64),
    "flat": np.array([-1], dtype=np.int64),
    "one": np.array(1.0, dtype=np.float32),
}
BINARY = {**WEIGHTS, "u": WEIGHTS["u"][:, :1]}
L1 = ml("Normalizer", "scores", "p", norm="L1")
ZIP = ml("ZipMap", "p", "map", classlabels_int64s=[0, 1, 2])
PIPELINES = {
    "logistic regression": classifier(
        SCALER, linear_classifier(3, "SOFTMAX"), L1, ZIP, outputs=[LABEL, map_info("map")]
    ),
    "without a map": classifier(SCALER, linear_classifier(3, "SOFTMAX"), L1, outputs=[LABEL, info("p", width=3)]),
    "one against the rest": classifier(
        SCALER, linear_classifier(3, "LOGISTIC"), L1, outputs=[LABEL, info("p", width=3)]
    ),
    "two classes": classifier(SCALER, linear_classifier(2, "LOGISTIC"), outputs=[LABEL, info("scores", width=2)]),
    "raw scores": classifier(SCALER, linear_classifier(3, "NONE"), outputs=[LABEL, info("scores", width=3)]),
    "label alone": classifier(SCALER, linear_classifier(3, "SOFTMAX"), outputs=[LABEL]),
    "columns": classifier(
        SCALER,
        linear_classifier(2, "LOGISTIC"),
        *(
            node
            for i in range(2)
            for node in (
                op("Slice", "scores", f"at{i}", f"at{i + 1}", "at1", output=f"s{i}"),
                op("Reshape", f"s{i}", "flat", output=f"i{i}"),
            )
        ),
        outputs=[LABEL, info("i0"), info("i1")],
        constants={"flat": np.array([-1]), **{f"at{i}": np.array([i]) for i in range(3)}},
    ),
    "perceptron": classifier(
        SCALER, *MLP, op("Softmax", "z", output="p"), *NAMED, ZIP, outputs=[LABEL, map_info("map")], constants=WEIGHTS
    ),
    "perceptron of two classes": classifier(
        SCALER,
        *MLP,
        op("Sigmoid", "z", output="q"),
        ONE,
        op("Concat", "other", "q", output="p", axis=1),
        *NAMED,
        outputs=[LABEL, info("p", width=2)],
        constants=BINARY,
    ),
    "imputer and columns": classifier(
        ml("Imputer", "x", "filled", imputed_value_floats=[0.0] * 4, replaced_value_float=float("nan")),
        helper.make_node("ArrayFeatureExtractor", ["filled", "columns"], ["v"], domain="ai.onnx.ml"),
        linear_classifier(3, "SOFTMAX"),
        outputs=[LABEL, info("scores", width=3)],
        constants={"columns": np.array([3, 0, 1, 2])},
    ),
}


@pytest.mark.parametrize("data", PIPELINES.values(), ids=PIPELINES.keys())
def test_the_class_of_scikit_learns_classifiers_is_that_of_the_scores(data: bytes, tmp_path: Path) -> None:
    """The label that onnxruntime gives is the largest output, and its robustness is proved and refuted."""
    path = tmp_path / "pipeline.onnx"
    path.write_bytes(data)
    network, session = load(path), onnxruntime.InferenceSession(data)
    x = inputs(network, 20)
    labels = torch.from_numpy(session.run(["label"], {"x": x.float().numpy()})[0]).flatten()
    assert torch.equal(network(x).flatten(1).argmax(1), labels)
    label, classes = int(labels[0]), network.size(network.output.name)
    assert kd.certify(network, kd.ball(x[0], 1e-5), kd.robustness(label, classes), "deeppoly").verdict == "verified"
    found = kd.certify(network, kd.ball(x[0], 20.0), kd.robustness(label, classes), "deeppoly")
    assert found.verdict == "falsified"
    assert found.counterexample is not None
    other = session.run(["label"], {"x": found.counterexample[None].numpy()})[0]
    assert int(np.ravel(other)[0]) != label


def test_regressors_of_scikit_learn() -> None:
    node = ml("LinearRegressor", "x", "y", coefficients=values(2, 4).ravel().tolist(), intercepts=[0.5, 1.0], targets=2)
    network = parse_onnx(classifier(node, outputs=[info("y", width=2)]))
    x = inputs(network, 3)
    expected = x @ torch.from_numpy(values(2, 4).astype(np.float32)).double().T + torch.tensor([0.5, 1.0])
    torch.testing.assert_close(network(x), expected)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (ml("Normalizer", "x", "y", norm="L2"), r"'my_normalizer' \(Normalizer\): operator of the domain 'ai.onnx.ml'"),
        (ml("Imputer", "x", "y", imputed_value_floats=[0.0] * 4, replaced_value_float=0.0), "my_imputer.*replaces 0"),
        (ml("LinearRegressor", "x", "y", intercepts=[0.0]), "my_linearregressor.*'coefficients' is missing"),
        (ml("LinearRegressor", "x", "y", coefficients=[0.0], post_transform="SOFTMAX"), "post_transform SOFTMAX"),
        (ml("Scaler", "x", "y", offset=[0.0] * 3, scale=[1.0] * 3), "my_scaler"),
    ],
)
def test_what_is_not_affine_in_a_pipeline_is_named(node: onnx.NodeProto, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_onnx(classifier(node, outputs=[info("y", width=4)]))
    assert "\n" not in str(caught.value)
