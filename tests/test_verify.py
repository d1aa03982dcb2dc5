"""``kreludomain verify`` and ``benchmark``: answers in the competition's format, in time, whatever happens."""

from __future__ import annotations

import csv
import gzip
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from networks import dense
from test_cli import ENVIRONMENT, call, is_refused, process

import kreludomain as kd
from kreludomain.network import Network, load, with_input
from kreludomain.property import load_vnnlib
from kreludomain.property.vnnlib import parse_vnnlib
from kreludomain.run.vnncomp.instance import read_instances

#: A hard question: no bounds prove it, no attack refutes it, and branching takes longer than anyone waits.
HARD = (12, 80, 80, 80, 80, 80, 3)

SCRIPTS = Path(__file__).resolve().parents[1] / "vnncomp"


def property_text(network: Network, unsafe: str, radius: float = 1.0, center: float = 0.0) -> str:
    """A VNN-LIB file about the inputs within ``radius`` of ``center`` whose outputs are ``unsafe``."""
    inputs, outputs = (network.size(node.name) for node in (network.input, network.output))
    names = [f"X_{i}" for i in range(inputs)] + [f"Y_{j}" for j in range(outputs)]
    lines = [f"(declare-const {name} Real)" for name in names]
    for i in range(inputs):
        lines += [f"(assert (>= X_{i} {center - radius}))", f"(assert (<= X_{i} {center + radius}))"]
    return "\n".join([*lines, f"(assert {unsafe})", ""])


def written(folder: Path, network: Network, unsafe: str, name: str = "net", radius: float = 1.0) -> tuple[Path, Path]:
    files = folder / f"{name}.onnx", folder / f"{name}.vnnlib"
    files[0].write_bytes(kd.to_onnx(network))
    files[1].write_text(property_text(network, unsafe, radius))
    return files


def middle(network: Network) -> list[float]:
    """The outputs at zero."""
    outputs: list[float] = network(torch.zeros(1, *network.input.shape, dtype=torch.float64))[0].tolist()
    return outputs


def confirmed(text: str, onnx_file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs and outputs of a counterexample as it is written, and onnxruntime's outputs there."""
    pairs = re.findall(r"\(([XY])_(\d+) ([^()\s]+)\)", text)
    assert text == "sat\n(" + "\n".join(f"({kind}_{i} {value})" for kind, i, value in pairs) + ")\n"
    values = {kind: np.array([float(v) for k, _, v in pairs if k == kind], np.float32) for kind in "XY"}
    order = {kind: [int(i) for k, i, _ in pairs if k == kind] for kind in "XY"}
    assert all(order[kind] == list(range(len(values[kind]))) for kind in "XY")
    session = onnxruntime.InferenceSession(str(onnx_file))
    given = session.get_inputs()[0]
    (outputs,) = session.run(
        None, {given.name: values["X"].reshape([s if isinstance(s, int) else 1 for s in given.shape])}
    )
    return values["X"], values["Y"], outputs.flatten()


# One instance ---------------------------------------------------------------------------------------------------------


def test_sat_with_a_counterexample_that_others_can_check(tmp_path: Path) -> None:
    network = dense(4, 12, 3, seed=1)
    at_zero = middle(network)
    onnx_file, vnnlib = written(tmp_path, network, f"(or (<= Y_0 -1e6) (and (<= Y_1 {at_zero[1]}) (>= Y_2 -1e6)))")
    packed = [file.with_name(file.name + ".gz") for file in (onnx_file, vnnlib)]
    for file, pack in zip((onnx_file, vnnlib), packed, strict=True):
        pack.write_bytes(gzip.compress(file.read_bytes()))
    result = process("verify", *packed, "--timeout", 60, "--results-file", "out.txt", cwd=tmp_path)
    assert result.returncode == 0
    assert result.stdout == (tmp_path / "out.txt").read_text()
    assert result.stderr.startswith("sat after ")
    x, y, outputs = confirmed(result.stdout, onnx_file)
    np.testing.assert_allclose(y, outputs, rtol=1e-6, atol=1e-7)
    assert np.abs(x).max() <= 1
    assert outputs[1] <= at_zero[1]


def test_unsat_and_what_the_method_is_told(tmp_path: Path) -> None:
    files = written(tmp_path, dense(4, 12, 3, seed=1), "(>= Y_0 1e4)")
    start = time.monotonic()
    result = process(
        "verify", *files, "--results-file", "out.txt", "--method", "krelu", "--option", "preset=fast",
        "--device", "cpu",
        cwd=tmp_path,
    )  # fmt: skip
    wall = time.monotonic() - start
    assert (result.returncode, result.stdout, (tmp_path / "out.txt").read_text()) == (0, "unsat\n", "unsat\n")
    told = re.match(r"unsat after ([\d.]+) s", result.stderr)
    assert told is not None
    assert wall / 2 < float(told[1]) < wall  # what counts is the time of the process, with all its imports


#: A command line within a process that has imported everything; on stderr, how long it took.
TIMED = """
import sys, time
from kreludomain.run.cli import main
start = time.monotonic()
try:
    main(sys.argv[1:])
finally:
    sys.stderr.write(f"seconds: {time.monotonic() - start}")
"""


@pytest.mark.timing
def test_timeout_within_a_second_of_the_limit(tmp_path: Path) -> None:
    network = dense(*HARD, seed=3)
    files = written(tmp_path, network, f"(>= Y_0 {middle(network)[0] + 40})")
    arguments = ["verify", *files, "--timeout", 3, "--threads", 1, "--results-file", "out.txt"]
    result = subprocess.run(
        [sys.executable, "-c", TIMED, *map(str, arguments)],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (result.returncode, result.stdout, (tmp_path / "out.txt").read_text()) == (0, "timeout\n", "timeout\n")
    assert 2.9 < float(result.stderr.rpartition("seconds: ")[2]) < 4


def test_unknown_where_the_memory_does_not_suffice(tmp_path: Path) -> None:
    network = dense(16, 400, 400, 400, 3, seed=2)
    files = written(tmp_path, network, "(>= Y_0 1e3)")
    result = process("verify", *files, "--memory-mb", 5, "--results-file", "out.txt", cwd=tmp_path)
    assert (result.returncode, result.stdout, (tmp_path / "out.txt").read_text()) == (0, "unknown\n", "unknown\n")
    assert "memory limit of 5 MB" in result.stderr


def test_files_that_cannot_be_worked_with(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    onnx_file, vnnlib = written(tmp_path, dense(4, 12, 3, seed=1), "(>= Y_0 1e4)")
    wrong = tmp_path / "wrong.vnnlib"
    wrong.write_text(vnnlib.read_text().replace("(>= Y_0 1e4)", "(>= Y_7 1e4)"))
    result = call(capfd, "verify", onnx_file, wrong, "--results-file", tmp_path / "out.txt")
    line = f"error: {wrong}:16: 'Y_7' is neither a number nor a declared variable\n"
    assert result == (2, "", line)
    assert (tmp_path / "out.txt").read_text() == "error\n"


def test_arguments_that_cannot_be_worked_with(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files = written(tmp_path, dense(4, 12, 3, seed=1), "(>= Y_0 1e4)")
    nowhere = tmp_path / "no" / "out.txt"
    is_refused(call(capfd, "verify", *files, "--results-file", nowhere), f"there is no folder {nowhere.parent}")
    is_refused(call(capfd, "verify", *files, "--method", "none"), "--method none: name: 'none' is not one of")
    is_refused(call(capfd, "verify", *files, "--option", "preset"), "--option preset: give KEY=VALUE")
    is_refused(call(capfd, "verify", *files, "--method", "lp", "--device", "cuda"), "--method lp: device")


# A whole specification ------------------------------------------------------------------------------------------------


def test_every_case_has_to_hold() -> None:
    """Two boxes, one on either side: the claim is false in one of them only."""
    network = dense(3, 10, 2, seed=5)
    boxes = [
        "(and " + " ".join(f"(>= X_{i} {low}) (<= X_{i} {low + 0.5})" for i in range(3)) + ")" for low in (-1.0, 0.5)
    ]
    head = "".join(f"(declare-const {name} Real)\n" for name in ("X_0", "X_1", "X_2", "Y_0", "Y_1"))
    corners = [
        [network(torch.full((1, 3), low + d, dtype=torch.float64))[0, 0] for d in (0.0, 0.5)] for low in (-1, 0.5)
    ]
    for threshold, verdict in ((1e3, kd.Verdict.VERIFIED), (float(max(corners[1])), kd.Verdict.FALSIFIED)):
        text = f"{head}(assert (or {' '.join(boxes)}))\n(assert (>= Y_0 {threshold}))\n"
        question = parse_vnnlib(text, network)
        assert len(question.properties) == 2
        answer = kd.decide(network, question, timeout_s=60)
        assert answer.verdict == verdict
        if verdict == kd.Verdict.FALSIFIED:
            assert answer.counterexample is not None
            assert bool(question.broken(answer.counterexample[None].double(), answer.outputs[None]).all())  # type: ignore[index]
        else:
            assert answer.verdicts == (verdict, verdict)


def test_no_case_is_left_out_when_time_is_short() -> None:
    """One case that is open is enough for there to be no proof, wherever it stands."""
    network = dense(*HARD, seed=3)
    hard = middle(network)[0] + 40
    boxes = [f"(and {' '.join(f'(>= X_{i} {-r}) (<= X_{i} {r})' for i in range(12))})" for r in (1.0, 1e-3)]
    head = "".join(f"(declare-const X_{i} Real)\n" for i in range(12)) + "(declare-const Y_0 Real)\n"
    for order in (boxes, boxes[::-1]):
        question = parse_vnnlib(f"{head}(assert (or {' '.join(order)}))\n(assert (>= Y_0 {hard}))\n", network)
        start = time.monotonic()
        answer = kd.decide(network, question, "deeppoly", timeout_s=2)
        assert time.monotonic() - start < 15
        assert answer.verdict in (kd.Verdict.UNKNOWN, kd.Verdict.TIMEOUT)
        assert answer.verdicts.count(kd.Verdict.VERIFIED) == 1
        assert kd.decide(network, question, "deeppoly", timeout_s=0).verdict == kd.Verdict.TIMEOUT


def test_a_relation_of_inputs_and_outputs_is_replayed_on_the_file(tmp_path: Path) -> None:
    network = dense(2, 8, 2, seed=4)
    onnx_file, vnnlib = written(tmp_path, network, f"(<= (- Y_0 X_1) {middle(network)[0]})")
    loaded = load(onnx_file)
    question = load_vnnlib(vnnlib, loaded)
    assert question.network is not loaded
    answer = kd.decide(loaded, question, timeout_s=60)
    assert answer.verdict == kd.Verdict.FALSIFIED
    assert answer.counterexample is not None
    assert answer.outputs is not None
    assert answer.outputs.shape == (2,)
    x = answer.counterexample
    assert float(answer.outputs[0]) - float(x[1]) <= middle(network)[0]
    result = process("verify", onnx_file, vnnlib, "--timeout", 60, cwd=tmp_path)
    _, y, outputs = confirmed(result.stdout, onnx_file)
    np.testing.assert_allclose(y, outputs, rtol=1e-6, atol=1e-7)
    assert len(y) == 2
    assert with_input(loaded).size(with_input(loaded).output.name) == 4


# Lists of instances ---------------------------------------------------------------------------------------------------


def test_a_list_with_a_wrong_answer_in_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = dense(4, 12, 3, seed=1)
    below = f"(<= Y_0 {middle(network)[0]})"
    for name, unsafe in (("holds", "(>= Y_0 1e4)"), ("broken", below), ("other", below)):
        written(tmp_path, network, unsafe, name)
    rows = ["benchmark,onnx,vnnlib,timeout_s,expected"]
    rows += ["a,holds.onnx,holds.vnnlib,60,holds", "a,broken.onnx,broken.vnnlib,60,violated"]
    (tmp_path / "list.csv").write_text("\n".join([*rows, "b,other.onnx,other.vnnlib,60,holds", ""]))
    arguments = ("benchmark", "list.csv", "--output", "out", "--workers", 1, "--threads", 1, "--timeout", 50)
    result = process(*arguments, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("WRONG: other.onnx other.vnnlib: sat, but unsat is expected; counterexample: out/")
    assert result.stderr.count("\n") == 1
    with (tmp_path / "out" / "results.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [(row["family"], row["expected"], row["result"]) for row in table] == [
        ("a", "unsat", "unsat"), ("a", "sat", "sat"), ("b", "unsat", "sat"),
    ]  # fmt: skip
    families = {
        words[0]: words[1:8]
        for line in result.stdout.splitlines()
        if len(words := line.split()) == 9 and words[0] != "3"
    }
    assert families == {
        "a": ["2", "2", "1", "1", "0", "0", families["a"][6]],
        "b": ["1", "1", "0", "1", "0", "1", families["b"][6]],
        "all": ["3", "3", "1", "2", "0", "1", families["all"][6]],
    }
    assert {"cactus.png", "cactus.svg"} <= {file.name for file in (tmp_path / "out").iterdir()}

    # Resumed, nothing is computed again; of a list that has changed, nothing is resumed.
    lines = (tmp_path / "out" / "results.jsonl").read_text().splitlines(keepends=True)
    marked = json.dumps(json.loads(lines[0]) | {"reason": "from the first run"}) + "\n"
    (tmp_path / "out" / "results.jsonl").write_text(marked + lines[1])
    monkeypatch.chdir(tmp_path)
    code, out, _ = call(capfd, *arguments, "--resume")
    assert code == 1
    assert [line.split()[0] for line in out.splitlines() if re.match(r"\d+/", line)] == ["3/3"]
    assert "from the first run" in (tmp_path / "out" / "results.csv").read_text()
    is_refused(call(capfd, *arguments[:-1], 40, "--resume"), "cannot be resumed, because this has changed")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("net.onnx,net.vnnlib\n", ":1: timeout is missing"),
        ("net.onnx,net.vnnlib,soon\n", ":1: timeout: 'soon' is not a number of seconds above 0"),
        ("net.onnx,net.vnnlib,nan\n", ":1: timeout: 'nan' is not a number of seconds above 0"),
        ("net.onnx,net.vnnlib,5\n\nnet.onnx,gone.vnnlib,5\n", "gone.vnnlib: no such file"),
        ("onnx,vnnlib\nnet.onnx,net.vnnlib\n", ":1: the header has no column timeout"),
        ("onnx,vnnlib,timeout,expected\nnet.onnx,net.vnnlib,5,maybe\n", ":2: expected: 'maybe' is not one of unsat"),
        ("\n", ": has no instances"),
    ],
)
def test_lists_that_cannot_be_read(text: str, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, dense(2, 3, 2), "(>= Y_0 1e4)")
    (tmp_path / "list.csv").write_text(text)
    is_refused(call(capfd, "benchmark", tmp_path / "list.csv", "--output", tmp_path / "out"), message)
    assert not (tmp_path / "out").exists()


def test_a_list_as_the_competition_has_it(tmp_path: Path) -> None:
    folder = tmp_path / "acasxu"
    folder.mkdir()
    written(folder, dense(2, 3, 2), "(>= Y_0 1e4)")
    (folder / "instances.csv").write_text("net.onnx,net.vnnlib,116\nnet.onnx, net.vnnlib ,2.5\n")
    found = read_instances(folder / "instances.csv")
    assert [(i.index, i.family, i.timeout_s, i.expected) for i in found] == [
        (0, "acasxu", 116, None),
        (1, "acasxu", 2.5, None),
    ]
    assert found[1].paths == (folder / "net.onnx", folder / "net.vnnlib")


# The competition's scripts --------------------------------------------------------------------------------------------


def script(name: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(SCRIPTS / name), *map(str, arguments)]
    path = f"{Path(sys.executable).parent}:{ENVIRONMENT['PATH']}"
    return subprocess.run(
        command, cwd=cwd, env={**ENVIRONMENT, "PATH": path}, capture_output=True, text=True, timeout=120
    )


def test_the_scripts(tmp_path: Path) -> None:
    files = written(tmp_path, dense(4, 12, 3, seed=1), "(>= Y_0 1e4)")
    assert script("prepare_instance.sh", "v1", "test", *files, cwd=tmp_path).returncode == 0
    assert script("run_instance.sh", "v1", "test", *files, "out.txt", 60, cwd=tmp_path).returncode == 0
    assert (tmp_path / "out.txt").read_text() == "unsat\n"
    assert script("prepare_instance.sh", "v1", "test", files[0], tmp_path / "gone", cwd=tmp_path).returncode == 1
    assert script("run_instance.sh", "v2", "test", *files, "out.txt", 60, cwd=tmp_path).returncode == 1
    subprocess.run(["bash", "-n", str(SCRIPTS / "install_tool.sh")], check=True)
