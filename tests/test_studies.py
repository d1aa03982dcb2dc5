"""What the engine promises of every study, held of each in the table of studies with a small configuration."""

from __future__ import annotations

import ast
import graphlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from networks import dense
from test_cli import call, is_refused
from test_run import project, rows_of

import kreludomain.run
from kreludomain import to_onnx
from kreludomain.run.engine.folder import Folder
from kreludomain.run.studies import STUDIES

#: Arguments of a command, made in a folder; for YAML the first is the file.
Example = Callable[[Path], list[str]]


def _certify(folder: Path) -> list[str]:
    changes = {"methods": ["interval", "deeppoly"], "data": {"csv": "data.csv", "count": 2}}
    return [str(project(folder, changes))]


def _benchmark(folder: Path) -> list[str]:
    (folder / "net.onnx").write_bytes(to_onnx(dense(2, 4, 2, seed=1)))
    head = "".join(f"(declare-const {name} Real)\n" for name in ("X_0", "X_1", "Y_0", "Y_1"))
    box = "".join(f"(assert (>= X_{i} -1))(assert (<= X_{i} 1))\n" for i in range(2))
    for name, threshold in (("holds", 1e4), ("broken", -1e4)):
        (folder / f"{name}.vnnlib").write_text(f"{head}{box}(assert (>= Y_0 {threshold}))\n")
    (folder / "list.csv").write_text("net.onnx,holds.vnnlib,60\nnet.onnx,broken.vnnlib,60\n")
    return [str(folder / "list.csv")]


def _analysis(folder: Path, **keys: Any) -> list[str]:
    """The configuration of an analysis of a network of two inputs and two outputs."""
    (folder / "net.onnx").write_bytes(to_onnx(dense(2, 6, 2, seed=1)))
    (folder / "run.yaml").write_text(yaml.safe_dump({"network": "net.onnx", **keys}))
    return [str(folder / "run.yaml")]


def _show(folder: Path) -> list[str]:
    scene = {"input": [0.2, -0.1], "region": {"epsilon": 0.5}, "plane": {"x": 0, "y": 1}}
    return _analysis(folder, **scene, methods=["interval", "deeppoly"], samples=50)


def _invert(folder: Path) -> list[str]:
    return _analysis(folder, points=[[0.1, -0.2]], radius=0.5, epsilon=0.1, stages=[1.0])


def _lipschitz(folder: Path) -> list[str]:
    path, radius = project(folder), {"largest": 1, "tolerance": 0.1, "methods": ["deeppoly"]}
    keys = {"network": "net.onnx", "data": {"csv": "data.csv", "count": 2}, "region": {"norm": 2, "epsilon": 0.1}}
    path.write_text(yaml.safe_dump(keys | {"samples": 20, "radius": radius, "lipsdp": False}))
    return [str(path)]


def _radius(folder: Path) -> list[str]:
    keys = {"region": {"norm": "inf", "epsilons": [0.01]}, "tolerance": 0.2, "attack": {"rounds": 0}}
    changes = {"methods": ["deeppoly"], "data": {"csv": "data.csv", "count": 2}}
    return [str(project(folder, changes | keys))]


def _moments(folder: Path) -> list[str]:
    path, attacks = project(folder), [{"kind": "sparse", "pixels": 2, "steps": 10}]
    keys = {"network": "net.onnx", "data": {"csv": "data.csv", "first": 4, "count": 2}, "noise": {"std": [0.05, 0.2]}}
    path.write_text(yaml.safe_dump(keys | {"samples": 2000, "attacks": attacks}))
    return [str(path)]


#: An example of every study, of two rows or more; quick.
EXAMPLES: dict[str, Example] = {
    "certify": _certify,
    "compare": _certify,
    "benchmark": _benchmark,
    "show": _show,
    "invert": _invert,
    "lipschitz": _lipschitz,
    "moments": _moments,
    "radius": _radius,
}

every_study = pytest.mark.parametrize("name", [study.name for study in STUDIES])
by_yaml = pytest.mark.parametrize("name", [study.name for study in STUDIES if study.name != "benchmark"])


def command(name: str, folder: Path) -> list[str]:
    """The command line of a study's example, which writes into ``folder/out``."""
    return [name, *EXAMPLES[name](folder), "--output", str(folder / "out")]


def change(arguments: list[str], **keys: Any) -> None:
    """Changes keys of a command's YAML file."""
    path = Path(arguments[1])
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | keys))


def comparable(value: Any) -> Any:
    """A row without what no two runs agree in."""
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if not key.endswith("seconds") and key != "stages"}
        return {key: comparable(item) for key, item in kept.items()}
    return [comparable(item) for item in value] if isinstance(value, list) else value


def found(folder: Path) -> list[str]:
    return sorted(json.dumps(comparable(row)) for row in rows_of(folder / "out"))


def test_every_study_has_an_example() -> None:
    assert set(EXAMPLES) == {study.name for study in STUDIES}


@every_study
def test_results_are_refused_resumed_and_the_same_with_two_workers(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    arguments = command(name, tmp_path)
    code, out, err = call(capfd, *arguments, "--json", "--workers", 1)
    assert (code, err) == (0, "")
    *rows, last = map(json.loads, out.splitlines())
    assert rows == rows_of(tmp_path / "out")
    assert (len(rows) >= 2, last["summary"]["rows"]) == (True, len(rows))
    whole = found(tmp_path)

    is_refused(call(capfd, *arguments), "there are results already; use --resume, --overwrite or another --output")
    is_refused(call(capfd, *arguments, "--resume", "--overwrite"), "--overwrite and --resume: give one of them")

    path = tmp_path / "out" / "results.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]) + lines[-1][:9])  # as if it had been killed within the last line
    code, out, err = call(capfd, *arguments, "--json", "--resume")
    assert (code, err, len(out.splitlines())) == (0, "", 2)  # the row that was not there, and the summary
    assert path.read_text().startswith("".join(lines[:-1]))
    assert found(tmp_path) == whole

    code, out, err = call(capfd, *arguments, "--quiet", "--overwrite", "--workers", 2)
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert str(path) in out
    assert found(tmp_path) == whole


@by_yaml
def test_a_typo_is_one_line_before_anything_is_computed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    arguments = command(name, tmp_path)
    change(arguments, timeuot_s=3)
    is_refused(call(capfd, *arguments), "run.yaml: timeuot_s: unknown key; known are ")
    assert not (tmp_path / "out").exists()


@every_study
def test_ctrl_c_keeps_rows_and_says_how_to_go_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    arguments = command(name, tmp_path)
    append = Folder.append

    def interrupted(folder: Folder, row: Any) -> None:
        append(folder, row)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "append", interrupted)
        code, out, err = call(capfd, *arguments)
    assert (code, out) == (130, "")
    assert err == (
        f"stopped: 1 rows are in {tmp_path / 'out' / 'results.jsonl'}; "
        f"go on with: kreludomain {' '.join(arguments)} --resume\n"
    )
    code, out, err = call(capfd, *arguments, "--resume", "--json")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == len(rows_of(tmp_path / "out"))  # all but the first, and the summary


@by_yaml
def test_a_row_over_its_time_limit_says_so_and_the_run_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    arguments = command(name, tmp_path)
    change(arguments, timeout_s=1e-6, grace_s=0)
    code, out, _ = call(capfd, *arguments, "--json", "--log-level", "error")
    assert code == 0
    *rows, last = map(json.loads, out.splitlines())
    assert last["summary"]["rows"] == len(rows) >= 2
    assert all(row["reason"].startswith("time limit of 1e-06 s; ") for row in rows)


@every_study
def test_what_a_run_is_of_is_held_against_a_resumed_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    arguments = command(name, tmp_path)
    assert call(capfd, *arguments, "--quiet")[0] == 0
    record = tmp_path / "out" / "run.json"
    values = json.loads(record.read_text())
    content = next(iter(values["contents"]))
    values["contents"][content] = "another"
    record.write_text(json.dumps(values))
    is_refused(call(capfd, *arguments, "--resume"), f"cannot be resumed, because this has changed: the {content}\n")


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Imports within functions and for type checks count too."""
    root = Path(kreludomain.run.__file__).parents[1]
    paths = {".".join(path.relative_to(root.parent).with_suffix("").parts): path for path in root.rglob("run/**/*.py")}
    imports: dict[str, set[str]] = {}
    for module, path in paths.items():
        statements = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        reached = {f"{node.module}.{alias.name}" for node in statements for alias in node.names}
        imports[module] = paths.keys() & (reached | {str(node.module) for node in statements})
    graphlib.TopologicalSorter(imports).prepare()  # raises for a circle
