"""Files as frameworks write them: where the weights are, what the input is, and which values are certified."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from networks import inputs
from onnx import TensorProto, helper, numpy_helper
from test_onnx import model, op, values
from torch import nn

import kreludomain as kd
from kreludomain import packed
from kreludomain.errors import InputError
from kreludomain.network import Runtime, check_against_runtime, from_torch, load, parse_onnx, read_onnx, with_input
from kreludomain.run.certify.study import Certify, CertifyConfig
from kreludomain.run.config.files import ConfigFile
from kreludomain.run.engine.record import network_hash

DATA = "net.onnx.data"
LAYERS = [op("MatMul", "x", "w", output="m"), op("Relu", "m", output="r"), op("Add", "r", "b")]
WEIGHTS = {"w": values(6, 3), "b": values(3)}


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("last", [False, True])
def test_the_first_convolution_says_where_the_channels_of_an_image_are(channels: int, last: bool) -> None:
    shape = (1, 5, 5, channels) if last else (1, channels, 5, 5)
    first = [op("Transpose", "x", output="t", perm=[0, 3, 1, 2])] if last else [op("Identity", "x", output="t")]
    nodes = [
        *first,
        op("Mul", "t", "s", output="n"),
        op("Pad", "n", "p", output="q"),
        op("Conv", "q", "w", auto_pad="SAME_UPPER"),
    ]
    constants = {"s": values(channels, 1, 1), "p": [0, 0, 1, 0, 0, 0, 0, 1], "w": values(2, channels, 3, 3)}
    assert parse_onnx(model(nodes, constants, shape)).input_layout == ("hwc" if last else "chw")


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((28, 28, 1), "hwc"), ((3, 8, 8), "chw"), ((5, 5, 5), None), ((3, 2, 3), None), ((16,), None)],
)
def test_without_a_convolution_the_axis_of_channels_is_known_by_its_length(
    shape: tuple[int, ...], layout: str | None
) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(int(torch.tensor(shape).prod()), 2))
    assert from_torch(module, shape).input_layout == layout


# ---- weights in files beside the model ------------------------------------------------------------------------------


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """``net.onnx`` with its weights in ``net.onnx.data``."""
    made = onnx.load_model_from_string(model(LAYERS, WEIGHTS, (1, 6)))
    onnx.save_model(made, str(tmp_path / "net.onnx"), save_as_external_data=True, location=DATA, size_threshold=0)
    return tmp_path / "net.onnx"


def test_weights_beside_the_model_are_read_run_and_hashed(beside: Path) -> None:
    whole = parse_onnx(model(LAYERS, WEIGHTS, (1, 6)))
    network, x = load(beside), inputs(whole, 5)
    torch.testing.assert_close(network(x), whole(x), rtol=0, atol=0)
    torch.testing.assert_close(Runtime(network)(x), Runtime(whole)(x))
    again = pickle.loads(pickle.dumps(network))  # as workers get it
    (beside.parent / DATA).unlink()
    torch.testing.assert_close(Runtime(again)(x), Runtime(whole)(x))
    joined = with_input(network)
    torch.testing.assert_close(Runtime(joined)(x)[:, 6:], Runtime(whole)(x))


def test_the_hash_of_a_network_covers_the_weights_beside_it(beside: Path) -> None:
    first = network_hash(read_onnx(beside))
    assert network_hash(read_onnx(beside)) == first
    data = beside.parent / DATA
    data.write_bytes(data.read_bytes()[:-4] + np.float32(7).tobytes())
    assert network_hash(read_onnx(beside)) != first


def test_a_packed_model_has_its_weights_beside_it(beside: Path) -> None:
    packed = beside.with_name("net.onnx.gz")
    packed.write_bytes(gzip.compress(beside.read_bytes()))
    assert network_hash(load(packed)) == network_hash(load(beside))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"location": "/etc/hostname"}, "'w' are in '/etc/hostname'; data files are read only from the folder"),
        ({"location": "../net.onnx.data"}, r"'w' are in '\.\./net\.onnx\.data'; data files are read only"),
        ({"location": "link"}, "'w' are in 'link'; data files are read only"),
        ({"location": "nowhere.data"}, "'w' are in 'nowhere.data', and there is no such file"),
        ({"location": ""}, "'w' are in ''"),
        ({"location": "a\0b"}, "'w' are in .*, which is no file's name"),
        ({"offset": "100"}, "'w': 'net.onnx.data' has .* bytes, .* are needed; it is cut off"),
        ({"offset": "-8"}, "'w' of shape .*: .* bytes at -8"),
        ({"offset": "some"}, "'w': their place in 'net.onnx.data' is not given as whole numbers"),
        ({"length": "8"}, "'w' of shape .*: 8 bytes at 0 in 'net.onnx.data', 72 are needed"),
    ],
)
def test_data_files_that_cannot_be_the_ones_that_are_meant(beside: Path, change: dict[str, str], message: str) -> None:
    outside = beside.parent.parent / "outside.data"
    outside.write_bytes(b"\0" * 1000)
    (beside.parent / "link").symlink_to(outside)
    made = onnx.load_model(str(beside), load_external_data=False)
    (tensor,) = (t for t in made.graph.initializer if t.name == "w")
    entries = {entry.key: entry.value for entry in tensor.external_data} | change
    del tensor.external_data[:]
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    beside.write_bytes(made.SerializeToString())
    with pytest.raises(InputError, match=rf"net\.onnx: weights {message}") as caught:
        load(beside)
    assert "\n" not in str(caught.value)


def test_what_unpacks_to_more_than_a_model_can_have_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "LARGEST", 1 << 22)
    monkeypatch.setattr(packed, "_gigabytes", lambda: "2 GB")
    path = tmp_path / "bomb.onnx.gz"
    path.write_bytes(gzip.compress(bytes(1 << 23)))
    with pytest.raises(InputError, match=r"bomb\.onnx\.gz: unpacks to more than 2 GB"):
        load(path)


def test_damaged_files_are_one_line(beside: Path) -> None:
    """Bytes changed, inserted or missing at random: read as another network, or refused in a line."""
    good, generator = model(LAYERS, WEIGHTS, (1, 6)), np.random.default_rng(0)
    for trial in range(120):
        data = bytearray(good[: int(generator.integers(1, len(good)))] if trial % 4 == 0 else good)
        for _ in range(1 + trial % 3):
            data[int(generator.integers(len(data)))] = int(generator.integers(256))
        beside.write_bytes(bytes(data))
        try:
            load(beside)
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017


# ---- types ----------------------------------------------------------------------------------------------------------


def double(nodes: Sequence[onnx.NodeProto], weights: dict[str, np.ndarray], kind: type = np.float64) -> bytes:
    """A model of a double input and weights of a kind."""
    tensors = [numpy_helper.from_array(value.astype(kind), name) for name, value in weights.items()]
    x, y = (helper.make_tensor_value_info(name, TensorProto.DOUBLE, [1, 6 if name == "x" else 3]) for name in "xy")
    made = helper.make_model(helper.make_graph(list(nodes), "test", [x], [y], tensors))
    made.ir_version, made.opset_import[0].version = 8, 17
    return bytes(made.SerializeToString())


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_networks_of_double_inputs_run_in_double(kind: type, tmp_path: Path) -> None:
    """float32 weights under a double input, which onnxruntime refuses, become double."""
    path = tmp_path / "double.onnx"
    path.write_bytes(double(LAYERS, WEIGHTS, kind))
    network, x = load(path), torch.from_numpy(WEIGHTS["w"][:, 0])[None] / 3
    runtime = Runtime(network)
    assert runtime.dtype == torch.float64
    torch.testing.assert_close(runtime(x), network(x), rtol=1e-14, atol=1e-14)
    assert not torch.equal(network(x), network(x.float().double()))
    value = float(network(x)[0, 0])
    row = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    region = kd.box(x[0], x[0])  # one point, that no float32 number is
    found = kd.certify(
        network, region, kd.claim(row, torch.tensor([-value - 1e-6], dtype=torch.float64)), "deeppoly", strict=True
    )
    assert found.verdict == "falsified"
    assert found.counterexample is not None
    assert torch.equal(found.counterexample, x[0])
    assert (
        kd.certify(
            network, region, kd.claim(row, torch.tensor([1e-9 - value], dtype=torch.float64)), "deeppoly"
        ).verdict
        == "verified"
    )


def test_convolutions_in_double_are_replayed_in_float32() -> None:
    """onnxruntime has none."""
    tensors = [numpy_helper.from_array(values(2, 1, 3, 3), "w")]
    x, y = (
        helper.make_tensor_value_info(n, TensorProto.DOUBLE, s) for n, s in (("x", [1, 1, 5, 5]), ("y", [1, 2, 3, 3]))
    )
    made = helper.make_model(helper.make_graph([op("Conv", "x", "w")], "test", [x], [y], tensors))
    made.ir_version, made.opset_import[0].version = 8, 17
    network = parse_onnx(made.SerializeToString())
    check_against_runtime(network, "conv")
    assert Runtime(network).dtype == torch.float32


# ---- outputs and inputs ---------------------------------------------------------------------------------------------

TWO = [
    op("Relu", "x", output="r"),
    op("MatMul", "r", "w", output="scores"),
    op("Sin", "r", output="curved"),
    op("ReduceSum", "r", "axes", output="sums", keepdims=1),
]


def several(*outputs: str, extra: Sequence[str] = ()) -> bytes:
    made = onnx.load_model_from_string(model([*TWO, op("Relu", "scores")], {**WEIGHTS, "axes": [1]}, ("batch", 6)))
    for name in extra:
        made.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]))
    del made.graph.output[:]
    sizes = {"scores": 3, "curved": 6, "sums": 1}
    made.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", sizes[name]]) for name in outputs
    )
    return bytes(made.SerializeToString())


def test_one_of_several_outputs_is_read_whatever_the_others_are(tmp_path: Path) -> None:
    path = tmp_path / "several.onnx"
    path.write_bytes(several("scores", "curved", "sums", extra=["unused"]))
    with pytest.raises(InputError, match=r"several.onnx: has 3 outputs, 'scores' \(batch, 3\), 'curved' \(batch, 6\)"):
        kd.load(path)
    with pytest.raises(InputError, match=r"has no output 'score'; it has 'scores' \(batch, 3\)"):
        kd.load(path, output="score")
    with pytest.raises(InputError, match="my_sin"):
        kd.load(path, output="curved")
    x = torch.tensor([[1.0, -1, 2, 3, 0.5, -2]], dtype=torch.float64)
    assert kd.load(path, output="sums")(x).item() == 6.5
    scores = kd.load(path, output="scores")
    torch.testing.assert_close(scores(x), x.relu() @ torch.from_numpy(WEIGHTS["w"].astype(np.float32)).double())


@pytest.mark.parametrize("shape", [(4, 6), (4, 2, 3)])
def test_a_batch_that_the_file_fixes_is_read_as_one_input(shape: tuple[int, ...], tmp_path: Path) -> None:
    nodes = [op("Reshape", "x", "s", output="f"), op("MatMul", "f", "w", output="m"), op("Relu", "m")]
    path = tmp_path / "batch.onnx"
    path.write_bytes(model(nodes, {"s": [4, 6], "w": WEIGHTS["w"]}, shape))
    network = kd.load(path)
    assert (network.input.shape, network.output.shape) == (shape[1:], (3,))
    x = inputs(network, 3)
    torch.testing.assert_close(Runtime(network)(x).double(), network(x), rtol=1e-5, atol=1e-5)


def test_rows_that_depend_on_each_other_are_one_input(tmp_path: Path) -> None:
    """Not a batch: each row minus the rows' mean."""
    nodes = [op("ReduceMean", "x", output="m", axes=[0], keepdims=1), op("Sub", "x", "m")]
    path = tmp_path / "rows.onnx"
    path.write_bytes(model(nodes, shape=(4, 6)))
    network = kd.load(path)
    assert network.input.shape == (4, 6)
    x = inputs(network, 1)
    torch.testing.assert_close(network(x), x - x.mean(1, keepdim=True))


def test_a_configuration_says_which_output_is_meant(tmp_path: Path) -> None:
    (tmp_path / "several.onnx").write_bytes(several("scores", "sums"))
    (tmp_path / "rows.csv").write_text("0,1,2,3,4,5,6\n")
    path, others = tmp_path / "c.yaml", "data: {csv: rows.csv}\nregion: {epsilon: 0.1}\nmethods: [deeppoly]\n"

    def written(network: str) -> ConfigFile[CertifyConfig]:
        path.write_text(f"network: {network}\n{others}")
        return Certify.load(path)

    file = written("{file: several.onnx, output: scores}")
    assert Certify.prepare(file).network.output.shape == (3,)
    assert file.deciding()["network"] == {"file": "", "output": "scores"}
    assert "network: {file: ../several.onnx, output: scores}" in file.resolved(tmp_path / "run", {})
    plain = written("several.onnx")
    assert plain.deciding()["network"] == ""  # as before there were outputs to choose from
    with pytest.raises(InputError, match=r"several\.onnx: has 2 outputs, .*network: \{file: \.\.\., output: \.\.\.\}"):
        Certify.prepare(plain)
    with pytest.raises(InputError, match=r"network\.outputs"):
        written("{file: several.onnx, outputs: scores}")


def test_what_a_network_is_read_without_is_a_note_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "n.onnx").write_bytes(model([op("Softmax", "x")], shape=(1, 3)))
    (tmp_path / "rows.csv").write_text("0,1,0.2,0.3\n")
    (tmp_path / "c.yaml").write_text(
        "network: n.onnx\ndata: {csv: rows.csv}\nregion: {epsilon: 0.1}\nmethods: [deeppoly]\n"
    )
    study = Certify.prepare(Certify.load(tmp_path / "c.yaml"))
    (note,) = study.notes()
    assert "the last Softmax (node 'my_softmax') is left out" in note
    (task,) = study.tasks()
    row = study.compute(task, None).row
    assert row.verdict == "verified"
    assert not row.notes  # said for the run, not for each row
