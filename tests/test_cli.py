"""The command line, from the outside: what it prints, where, with which exit code, and what it leaves on the disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from networks import dense
from test_run import project, rows_of

import kreludomain
from kreludomain import to_onnx
from kreludomain.run.cli import main

ROOT = Path(kreludomain.__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def process(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """``kreludomain ARGUMENTS`` as a process of its own."""
    command = [sys.executable, "-m", "kreludomain", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)


def call(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command line, within this process."""
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    out, err = capfd.readouterr()
    return int(exit_.value.code or 0), out, err


def is_refused(result: tuple[int, str, str], message: str) -> None:
    code, out, err = result
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    assert message in err


def broken_network(folder: Path, kind: str) -> Path:
    """An ONNX file with one thing wrong."""
    model = onnx.load_model_from_string(to_onnx(dense(4, 8, 3, seed=1)))
    if kind == "operator":
        next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Sin"
    if kind == "nan":
        weight = model.graph.initializer[0]
        array = onnx.numpy_helper.to_array(weight).copy()
        array[0, 0] = np.nan
        weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    path = folder / f"{kind}.onnx"
    path.write_bytes(model.SerializeToString() if kind != "garbage" else b"\x08\x07garbage")
    return path


# Processes ------------------------------------------------------------------------------------------------------------


def test_certify_as_a_process(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project(tmp_path, {"methods": ["interval", "deeppoly", {"name": "krelu-lp", "k": 2}]})
    result = process("certify", "run.yaml", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "krelu-lp k=2" in result.stdout
    assert "6 samples, 18 rows in out/results.jsonl" in result.stdout
    assert len(rows_of(tmp_path / "out")) == 18
    monkeypatch.chdir(tmp_path)
    line = "error: out/results.jsonl: there are results already; use --resume, --overwrite or another --output\n"
    assert call(capfd, "certify", "run.yaml") == (2, "", line)


def test_bad_input_as_a_process(tmp_path: Path) -> None:
    project(tmp_path, {"region": {"epsilon": "abc"}})
    result = process("certify", "run.yaml", cwd=tmp_path)
    line = "error: run.yaml: region.epsilon: input should be a number, not 'abc'\n"
    assert (result.returncode, result.stdout, result.stderr) == (2, "", line)
    assert not (tmp_path / "out").exists()


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": 0.1}, "run.yaml: epsilon: unknown key"),
        ({"network": "none.onnx"}, "none.onnx: no such file"),
        ({"network": "operator.onnx"}, "(Sin): operator not supported"),
        ({"network": "nan.onnx"}, "contains NaN or infinite values"),
        ({"network": "garbage.onnx"}, "garbage.onnx: not a valid ONNX model"),
        ({"network": "."}, ": is a folder, not a file"),
        ({"data": {"csv": "none.csv"}}, "none.csv: no such file"),
        ({"data": {"csv": "."}}, "is a folder, not a file"),
        ({"data": {"csv": "short.csv"}}, "short.csv: line 2: 4 cells, line 1 has 5"),
        ({"data": {"csv": "data.csv", "count": 7}}, "data.csv: there are 6 rows"),
        ({"region": {"epsilon": -1.0}}, "region.epsilon: input should be 0 or more, not -1.0"),
        ({"region": {"epsilon": 0.1, "clip": [1, 0]}}, "region.clip: [1, 0] is empty"),
        ({"region": {"epsilon": 0.1, "clip": [5, 6]}}, "an l_inf ball lies further than epsilon outside clip [5, 6]"),
        ({"methods": [{"name": "lp", "solver": "cplex!"}]}, "methods[0].solver: 'cplex!' is not one of auto, "),
        ({"methods": ["magic"]}, "methods[0]: 'magic' is not one of interval, "),
        ({"output": "data.csv"}, "data.csv: the output is a folder, this is a file"),
        ({"output": "data.csv/deeper"}, "data.csv/deeper: Not a directory"),
        ({"output": None}, "output: missing; give it here or as --output"),
    ],
)
def test_bad_configurations_are_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    path = project(tmp_path, change)
    for kind in ("operator", "nan", "garbage"):
        broken_network(tmp_path, kind)
    (tmp_path / "short.csv").write_text("1,0,0,0,0\n1,0,0,0\n")
    for command in ("certify", "compare"):
        is_refused(call(capfd, command, path), message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing command"),
        (["certfy"], "No such command 'certfy'"),
        (["certify"], "Missing argument 'CONFIG'"),
        (["certify", "none.yaml"], "none.yaml: no such file"),
        (["certify", "."], "Is a directory"),
        (["certify", "bad.yaml"], "bad.yaml: line 3: "),
        (["certify", "good.yaml", "--outptu", "x"], "No such option"),
        (["bounds", "net.onnx"], "give one of --data, --digits, --input, --box, not none"),
        (["bounds", "none.onnx", "--input", "x.npy", "--epsilon", "1"], "none.onnx: no such file"),
        (["bounds", "net.onnx", "--input", "x.npy"], "--epsilon: missing"),
        (["bounds", "net.onnx", "--input", "x.npy", "--digits", "1"], "not --digits and --input"),
        (["bounds", "net.onnx", "--input", "none.npy", "--epsilon", "1"], "none.npy: no such file"),
        (["bounds", "net.onnx", "--input", "net.onnx", "--epsilon", "1"], "net.onnx: not a .npy file"),
        (["bounds", "net.onnx", "--input", "words.npy", "--epsilon", "1"], "words.npy: not a .npy file of numbers"),
        (["bounds", "net.onnx", "--input", "long.npy", "--epsilon", "1"], "region: shape (5,), the network takes"),
        (["bounds", "net.onnx", "--input", "nan.npy", "--epsilon", "1"], "NaN"),
        (["bounds", "net.onnx", "--input", "x.npy", "--epsilon", "-1"], "region: epsilon: input should be 0 or more"),
        (["bounds", "net.onnx", "--input", "x.npy", "--epsilon", "a"], "region: epsilon: input should be a number"),
        (["bounds", "net.onnx", "--input", "x.npy", "--epsilon", "1", "--norm", "3"], "region: norm: '3' is not"),
        (["bounds", "net.onnx", "--box", "one.npy", "x.npy"], "region: empty, lower 1 > upper 0 at entry 0"),
        (["bounds", "net.onnx", "--box", "x.npy", "long.npy"], "region: lower is (4,), upper is (5,)"),
        (
            ["bounds", "net.onnx", "--digits", "1", "--epsilon", "1"],
            "digits, test: rows of 64 values, the network takes 4",
        ),
        (["bounds", "net.onnx", "--csv", "data.csv", "--row", "6", "--epsilon", "1"], "there are 6 rows"),
        (["bounds", "net.onnx", "--data", "data.csv", "--key", "scale=0", "--epsilon", "1"], "data.csv: scale: input"),
        (["bounds", "net.onnx", "--data", "data.csv", "--key", "count=1", "--epsilon", "1"], "--key count=1: give KEY"),
        (["bounds", "net.onnx", "--box", "x.npy", "one.npy", "--method", "lpp"], "'lpp' is not one of interval"),
        (["bounds", "net.onnx", "--box", "x.npy", "one.npy", "--option", "k"], "--option k: give KEY=VALUE"),
        (["bounds", "net.onnx", "--box", "x.npy", "one.npy", "--option", "k=3"], "deeppoly: k: unknown key"),
        (["bounds", "net.onnx", "--box", "x.npy", "one.npy", "--output", "none/b.npz"], "none/b.npz: No such file"),
    ],
)
def test_bad_command_lines_are_one_line(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    project(tmp_path).rename(tmp_path / "good.yaml")
    (tmp_path / "bad.yaml").write_text("network: x\ndata: [\n")
    arrays = {
        "x": np.zeros(4),
        "one": np.ones(4),
        "long": np.zeros(5),
        "nan": np.full(4, np.nan),
        "words": np.array("a"),
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    monkeypatch.chdir(tmp_path)
    is_refused(call(capfd, *arguments), message)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_without_permission_are_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = project(tmp_path)
    path.chmod(0)
    is_refused(call(capfd, "certify", path), "run.yaml: Permission denied")


# Good input -----------------------------------------------------------------------------------------------------------


def test_version_and_help(capfd: pytest.CaptureFixture[str]) -> None:
    assert call(capfd, "--version") == (0, f"kreludomain {kreludomain.__version__}\n", "")
    code, out, err = call(capfd, "--help")
    assert (code, err) == (0, "")
    assert all(command in out for command in ("certify", "compare", "bounds"))


def test_compare_shows_methods_side_by_side(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = project(tmp_path, {"methods": ["interval", {"name": "krelu-lp", "label": "groups [of 3]"}]})
    code, out, err = call(capfd, "compare", path, "--output", tmp_path / "elsewhere")
    assert (code, err) == (0, "")
    assert out.count("groups [of 3]") >= 3
    assert "misclassified" in out
    assert (tmp_path / "elsewhere" / "comparison.svg").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "source",
    [
        ["--input", "x.npy", "--epsilon", "0.1", "--clip", "-0.05", "1"],
        ["--csv", "data.csv", "--row", "2", "--epsilon", "0.1", "--norm", "1"],
        ["--box", "x.npy", "one.npy"],
    ],
)
def test_bounds_of_every_layer_contain_the_values(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, source: list[str]
) -> None:
    project(tmp_path)
    np.save(tmp_path / "x.npy", np.zeros(4))
    np.save(tmp_path / "one.npy", np.ones(4))
    monkeypatch.chdir(tmp_path)
    method = ["--method", "krelu-lp", "--option", "k=2", "--option", "refine=all"]
    code, out, err = call(capfd, "bounds", "net.onnx", *source, *method, "--output", "b.npz")
    assert (code, err) == (0, "")
    network = kreludomain.load("net.onnx")
    found = np.load("b.npz")
    assert len(found.files) == 2 * len(network.nodes)
    name = network.input.name
    values = network.values(torch.from_numpy((found[f"{name}.lower"] + found[f"{name}.upper"]) / 2)[None])
    for name, value in values.items():
        assert name in out
        assert (found[f"{name}.lower"] <= value[0].numpy() + 1e-12).all()
        assert (value[0].numpy() <= found[f"{name}.upper"] + 1e-12).all()


def test_rows_are_json_a_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = project(tmp_path)
    assert call(capfd, "certify", path, "--output", tmp_path / "a")[0] == 0
    lines = (tmp_path / "a" / "results.jsonl").read_text().splitlines()
    assert {json.loads(line)["method"] for line in lines} == {"deeppoly"}
