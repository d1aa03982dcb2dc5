"""Configurations, samples, rows and tables of runs: what is read, what is refused and how, what is written."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import yaml
from networks import conv, dense

from kreludomain import InputError, Interval, Network, Verdict, to_onnx
from kreludomain.options import check
from kreludomain.run.certify.rows import CertifyRow, joint_gains, margins_table, summarise, summary_table
from kreludomain.run.certify.study import Certify, CertifyConfig, Compare
from kreludomain.run.config.files import load_config
from kreludomain.run.config.methods import named_method
from kreludomain.run.config.yaml_text import parse_yaml
from kreludomain.run.engine.folder import Folder, json_line
from kreludomain.run.engine.pool import local_pool
from kreludomain.run.engine.runner import Run, RunOptions, run_study
from kreludomain.run.output.tables import finite
from kreludomain.verify import METHODS, predict

GOOD: dict[str, Any] = {
    "network": "net.onnx",
    "data": {"csv": "data.csv"},
    "region": {"epsilon": 0.05},
    "methods": ["deeppoly"],
    "output": "out",
}


def project(folder: Path, config: dict[str, Any] | None = None, network: Network | None = None) -> Path:
    """A folder with a network, six samples of it (the last one with a wrong label) and a configuration."""
    network = network or dense(4, 8, 8, 3, seed=1)
    folder.mkdir(exist_ok=True)
    (folder / "net.onnx").write_bytes(to_onnx(network))
    x = torch.rand((6, *network.input.shape), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    labels = predict(network, x).tolist()
    labels[-1] = (labels[-1] + 1) % 3
    rows = [",".join(map(repr, [label, *row.flatten().tolist()])) for label, row in zip(labels, x, strict=True)]
    (folder / "data.csv").write_text("\n".join(rows) + "\n")
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(GOOD | (config or {})))
    return path


def run(path: Path, output: Path, workers: int = 1) -> list[CertifyRow]:
    """The rows of a configuration, in order."""
    study = Certify.prepare(Certify.load(path))
    run = Run(study, Folder(output))
    with local_pool(study.compute, workers) as pool:
        assert len(list(run.compute(pool))) == run.size
    return run.in_order()


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of ``results.jsonl``; anything that is not JSON proper is an error."""

    def refuse(text: str) -> None:
        raise ValueError(text)

    lines = (folder / "results.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def answers(folder: Path) -> list[dict[str, Any]]:
    """The rows by sample and method without what no two runs agree in."""
    found = [{**row, "seconds": 0, "stages": {}} for row in rows_of(folder)]
    return sorted(found, key=lambda row: (row["index"], row["method"]))


# YAML -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.05", 0.05),
        ("1e-3", 0.001),
        ("-2.5E+1", -25.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("7", 7),
        ("010", 10),
        (".inf", float("inf")),
        ("-.INF", -float("inf")),
        ("'1e-3'", "1e-3"),
        ("no", "no"),
        ("2020-13-45", "2020-13-45"),
        ("1:30", "1:30"),
        ("True", True),
        ("~", None),
        ("", None),
        ("inf", "inf"),
    ],
)
def test_yaml_scalars_are_what_they_look_like(text: str, value: object) -> None:
    parsed = parse_yaml(f"key: {text}", "x.yaml")["key"]
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: {c: 1\nd: 2", "x.yaml: line 3: "),
        ("a: 1\na: 2", "x.yaml: line 2: key 'a' is there twice"),
        ("a: {b: 1, c: 2, b: 3}", "x.yaml: line 1: key 'b' is there twice"),
        ("a:\n\t- 1", "x.yaml: line 2: "),
        ("a: *nobody", "x.yaml: line 1: "),
        ("a: !!python/object/apply:os.getcwd []", "x.yaml: line 1: "),
        ("a: !!int abc", "x.yaml: invalid literal"),
        (b"\x00\xff\x10", "x.yaml: not a text file"),
        (b"caf\xe9: 1", "x.yaml: not a text file"),
    ],
)
def test_yaml_errors_name_the_file_and_the_line(text: str | bytes, message: str) -> None:
    with pytest.raises(InputError) as error:
        parse_yaml(text, "x.yaml")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


# Configurations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"region": {"epsilon": "abc"}}, "region.epsilon: input should be a number, not 'abc'"),
        ({"region": {"epsilon": True}}, "region.epsilon: input should be a number, not True"),
        ({"region": {"epsilon": -0.1}}, "region.epsilon: input should be 0 or more, not -0.1"),
        ({"region": {"epsilon": float("nan")}}, "region.epsilon: input should be a finite number, not nan"),
        ({"region": 3}, "region: should be a mapping of keys (norm, epsilon, epsilons,"),
        ({"region": {"epsilon": 1, "norm": 3}}, "region.norm: '3' is not 'inf', '1' or '2'"),
        ({"region": {"epsilon": 1, "clip": [1, 0]}}, "region.clip: [1, 0] is empty"),
        (
            {"region": {"epsilon": 1, "clip": [0]}},
            "region.clip: should be [low, high], a number or a list each, not 1 items",
        ),
        ({"region": {"epsilon": 1, "clip": [0, "1"]}}, "region.clip[1]: input should be a number or a fraction"),
        ({"region": {"epsilon": 1, "clip": 1}}, "region.clip: input should be a list, not 1"),
        ({"region": {"epsilon": 1, "eps": 1}}, "region.eps: unknown key; known are norm, epsilon, epsilons,"),
        ({"netwrok": "x"}, "netwrok: unknown key; known are network, networks, data, region, claim, methods, attack, "),
        ({"network": None}, "network: missing; of two that are compared, networks: [a.onnx, b.onnx]"),
        ({"network": ""}, "network.file: should not be empty"),
        ({"data": "mnist"}, "data: give a mapping of keys: {csv: mnist}"),
        (
            {"data": {}},
            "data: give one of {csv: FILE, ...}, {npy: FILE, ...}, {npz: FILE, ...}, {pt: FILE, ...} or {name: d",
        ),
        ({"data": {"name": "cifar"}}, "data.name: 'cifar' is not 'digits'"),
        ({"data": {"name": "digits", "count": 0}}, "data.count: input should be 1 or more, not 0"),
        (
            {"data": {"name": "digits", "csv": "a"}},
            "data: give one of {csv: FILE, ...}, ",
        ),
        ({"data": {"csv": "a", "scale": 0}}, "data.scale: input should be greater than 0, not 0"),
        ({"data": {"csv": "a", "first": 1.5}}, "data.first: input should be a whole number, not 1.5"),
        ({"data": {"csv": "a", "layout": "hcw"}}, "data.layout: 'hcw' is not 'chw', 'hwc' or 'flat'"),
        ({"methods": []}, "methods: should have at least one item"),
        ({"methods": "deeppoly"}, "methods: input should be a list, not 'deeppoly'"),
        ({"methods": ["deeppoli"]}, "methods[0]: 'deeppoli' is not one of interval, "),
        ({"methods": ["lp", {"nam": "lp"}]}, "methods[1].name: None is not one of interval, "),
        ({"methods": [{"name": "krelu-lp", "k": 2.5}]}, "methods[0].k: input should be a whole number, not 2.5"),
        ({"methods": [{"name": "krelu-lp", "k": "3"}]}, "methods[0].k: input should be a whole number, not '3'"),
        ({"methods": [{"name": "krelu-lp", "k": True}]}, "methods[0].k: input should be a whole number, not True"),
        (
            {"methods": ["lp", {"name": "krelu-lp", "chunks": 2}]},
            "methods[1].chunks: unknown key; known are name, label",
        ),
        ({"methods": [{"name": "lp", "refine": "inner"}]}, "methods[0].refine: 'inner' is not one of output, all"),
        ({"methods": [{"name": "lp", "solver": "gurobbi"}]}, "methods[0].solver: 'gurobbi' is not one of auto, "),
        ({"methods": [{"name": "krelu-lp", "k": 0}]}, "methods[0].grouping: k = 0"),
        ({"methods": ["lp", "lp"]}, "methods[1]: 'lp' is the label of item 0 too; give it another label"),
        ({"methods": [{"name": "lp", "label": ""}]}, "methods[0].label: should not be empty"),
        ({"timeout_s": 0}, "timeout_s: input should be greater than 0, not 0"),
        ({"timeout_s": "60s"}, "timeout_s: input should be a number, not '60s'"),
        ({"attack": 1}, "attack: input should be true or false, or a mapping of options, not 1"),
        ({"claim": {"C": []}}, "claim.C: should have at least one row"),
        ({"claim": {"C": [[1, 2], [3]]}}, "claim.C: rows of different lengths (1, 2)"),
        ({"claim": {"C": [[1, "x"]]}}, "claim.C[0][1]: input should be a number, not 'x'"),
        ({"claim": {"C": [[1, 2]], "d": [1, 2]}}, "claim.d: should have 1 numbers, one a row of C, not 2"),
    ],
)
def test_config_errors_name_the_file_and_the_key(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = project(tmp_path, change)
    with pytest.raises(InputError) as error:
        load_config(path, CertifyConfig)
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "just text", "- network: x"])
def test_a_config_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(InputError, match=r"run.yaml: should be a mapping of keys \(network, networks, data, "):
        load_config(tmp_path / "run.yaml", CertifyConfig)


@pytest.mark.parametrize(("given", "norm"), [("inf", "inf"), (float("inf"), "inf"), (1, "1"), (2.0, "2"), ("2", "2")])
def test_norms_are_numbers_or_text(given: object, norm: str) -> None:
    assert check(CertifyConfig, GOOD | {"region": {"norm": given, "epsilon": 1}}, "x").region.norm == norm


def test_output_is_the_files_or_the_command_lines(tmp_path: Path) -> None:
    file = load_config(project(tmp_path), CertifyConfig)
    assert file.output(None) == tmp_path / "out"
    assert file.output(Path("elsewhere")) == Path("elsewhere")
    with pytest.raises(InputError, match="output: missing"):
        load_config(project(tmp_path, {"output": None}), CertifyConfig).output(None)


@pytest.mark.parametrize(
    ("item", "label"),
    [
        ("krelu-lp", "krelu-lp"),
        ({"name": "krelu-lp", "k": 3, "partition_size": 20, "overlap": 1, "refine": "output"}, "krelu-lp k=3"),
        ({"name": "krelu-lp", "k": 2, "refine": "all"}, "krelu-lp k=2 refine=all"),
        ({"name": "lp", "label": "triangles"}, "triangles"),
    ],
)
def test_labels_say_what_is_not_default(item: object, label: str) -> None:
    assert named_method(item, "x").label == label


@pytest.mark.parametrize(
    ("earlier", "now"),
    [
        ({"name": "krelu-lp", "chunk": 12}, {"name": "krelu-lp", "partition_size": 12}),
        ({"name": "krelu", "grouping": "coupling"}, {"name": "krelu", "grouping": "correlation"}),
        (
            {"name": "complete", "preset": "tight", "batch": 8, "branch_steps": 5, "few_inputs": 3},
            {
                "name": "complete",
                "bounder": {"preset": "tight"},
                "branching": {"batch": 8, "steps": 5},
                "splitting": {"few_inputs": 3},
            },
        ),
        (
            {"name": "complete", "preset": "fast", "bounder": {"overlap": 2}},
            {"name": "complete", "bounder": {"preset": "fast", "overlap": 2}},
        ),
    ],
)
def test_keys_of_earlier_configurations_are_read(earlier: dict[str, Any], now: dict[str, Any]) -> None:
    assert named_method(earlier, "here").method == named_method(now, "here").method


def test_an_earlier_key_beside_the_present_one_is_unknown() -> None:
    with pytest.raises(InputError, match="chunk: unknown key"):
        named_method({"name": "krelu", "chunk": 10, "partition_size": 12}, "here")
    with pytest.raises(InputError, match="preset: unknown key"):
        named_method({"name": "complete", "preset": "fast", "bounder": {"preset": "tight"}}, "here")


def test_options_of_a_new_method_are_its_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "toy", Toy)
    made = named_method({"name": "toy", "steps": 3, "mode": "b", "sizes": [1, 2], "limit": 2}, "x")
    assert made.method == Toy(3, "b", (1, 2), 2.0)
    assert made.resolved() == {
        "name": "toy",
        "label": "toy steps=3 mode=b sizes=(1, 2) limit=2.0",
        **{"steps": 3, "mode": "b", "sizes": [1, 2], "limit": 2.0},
    }
    for item, message in [
        ({}, "x: steps: missing"),
        ({"steps": 1, "mode": "c"}, "x: mode: 'c' is not 'a' or 'b'"),
        ({"steps": 1, "rule": 1}, "x: rule: unknown key"),
        ({"steps": 1, "sizes": [1, "2"]}, r"x: sizes\[1\]: input should be a whole number, not '2'"),
        ({"steps": -1}, "x: steps: -1 is below zero"),
    ]:
        with pytest.raises(InputError, match=message):
            named_method({"name": "toy", **item}, "x")


@dataclass(frozen=True)
class Toy(Interval):
    steps: int
    mode: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = ()
    limit: float | None = None
    rule: object = field(default_factory=object, compare=False)

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise InputError(f"steps: {self.steps} is below zero")


# Runs -----------------------------------------------------------------------------------------------------------------


def test_rows_of_a_run(tmp_path: Path) -> None:
    path = project(tmp_path, {"methods": ["interval", {"name": "krelu-lp", "k": 2}], "region": {"epsilon": 0.3}})
    found = run(path, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert len(rows) == len(found) == 12
    assert sorted(map(json.dumps, rows)) == sorted(map(json_line, found))
    assert [(r.index, r.method) for r in found[:3]] == [(0, "interval"), (0, "krelu-lp k=2"), (1, "interval")]
    for row in rows:
        assert list(row) == [
            *("index", "label", "predicted", "method", "verdict", "lower_bounds", "margin", "seconds", "reason"),
            *("notes", "counterexample", "widths", "stages", "name", "target", "claim", "epsilon"),
        ]
        if row["index"] == 5:
            assert row["verdict"] == "misclassified"
            assert row["lower_bounds"] is None
            assert row["predicted"] != row["label"]
            continue
        assert row["verdict"] in ("verified", "falsified", "unknown")
        assert len(row["lower_bounds"]) == 2
        assert row["margin"] == min(row["lower_bounds"])
        assert (row["verdict"] == "verified") == (row["margin"] > 0)
        assert (row["verdict"] == "falsified") == (row["counterexample"] is not None)


def test_counterexamples_are_files_that_break_the_claim(tmp_path: Path) -> None:
    path = project(tmp_path, {"region": {"epsilon": 2.0}})
    run(path, tmp_path / "out")
    loaded = Certify.prepare(Certify.load(path))
    falsified = [row for row in rows_of(tmp_path / "out") if row["verdict"] == "falsified"]
    assert falsified
    for row in falsified:
        x = np.load(tmp_path / "out" / row["counterexample"])
        assert x.dtype == np.float32
        assert int(predict(loaded.network, torch.from_numpy(x)[None])[0]) != row["label"]
        assert float((torch.from_numpy(x) - loaded.samples[row["index"]].x).abs().max()) <= 2.0


def test_a_claim_of_ones_own_holds_for_any_label(tmp_path: Path) -> None:
    rows = [[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]
    found = run(project(tmp_path, {"claim": {"C": rows, "d": [1e3, 1e3]}}), tmp_path / "a")
    assert {row.verdict for row in found} == {Verdict.VERIFIED}
    assert len(found[0].lower_bounds or ()) == 2
    found = run(project(tmp_path, {"claim": {"C": rows, "d": [-1e3, 0.0]}}), tmp_path / "b")
    assert {row.verdict for row in found} == {Verdict.FALSIFIED}


def test_a_time_limit_is_kept_and_said(tmp_path: Path) -> None:
    network = dense(4, 60, 60, 60, 3, seed=1)
    methods = [{"name": "krelu-lp", "k": 3, "refine": "all"}]
    change = {"methods": methods, "timeout_s": 0.2, "region": {"epsilon": 0.5}, "data": {"csv": "data.csv", "count": 2}}
    for row in run(project(tmp_path, change, network), tmp_path / "out"):
        assert row.verdict == Verdict.TIMEOUT
        assert row.reason.startswith("time limit of 0.2 s")
        assert row.seconds < 15
        assert row.lower_bounds is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": "no.onnx"}, r"no.onnx: no such file"),
        ({"network": "data.csv"}, r"data.csv: not a valid ONNX model"),
        ({"data": {"csv": "no.csv"}}, r"no.csv: no such file"),
        ({"data": {"name": "digits"}}, r"digits, test: rows of 64 values, the network takes 4"),
        ({"data": {"csv": "labels.csv"}}, r"sample 0: label 9 is not one of the 3 classes 0..2"),
        ({"region": {"norm": 1, "epsilon": 0.1, "clip": [2, 3]}}, r"sample 0: region: the middle of an l_1 ball lies"),
        (
            {"region": {"epsilon": 0.1, "clip": [2, 3]}},
            r"sample 0: region: the middle of an l_inf ball lies further than epsilon outside clip \[2, 3\]",
        ),
        ({"claim": {"C": [[1.0]]}}, r"sample 0: claim: C has 1 columns, the network has 3 outputs"),
        (
            {
                "region": {"norm": 2, "epsilon": 0.1},
                "methods": ["lp", {"name": "lp", "solver": "highspy", "label": "b"}],
            },
            r"methods\[1\]: solver: highspy takes linear regions only",
        ),
    ],
)
def test_what_would_go_wrong_in_every_row_is_found_first(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = project(tmp_path, change)
    (tmp_path / "labels.csv").write_text("9,0,0,0,0\n")
    with pytest.raises(InputError, match=message):
        Certify.prepare(Certify.load(path))


def test_numbers_that_are_not_finite_are_null() -> None:
    assert [finite(value) for value in (1.0, float("nan"), -float("inf"))] == [1.0, None, None]


def test_the_stored_configuration_runs_again_to_the_same_rows(tmp_path: Path) -> None:
    methods = ["interval", {"name": "krelu-lp", "k": 2}, {"name": "deeppoly", "lower_slope": "zero"}]
    path = project(tmp_path / "here", {"methods": methods, "region": {"epsilon": 0.1, "clip": [0, 1]}, "tight": True})
    run_study(Certify, RunOptions(tmp_path / "there" / "first"), config=path)
    stored = tmp_path / "there" / "first" / "config.yaml"
    assert str(tmp_path) not in stored.read_text()
    values = yaml.safe_load(stored.read_text())
    assert values["methods"][1]["partition_size"] == 20
    assert set(values["versions"]) >= {"kreludomain", "torch", "numpy"}
    run_study(Certify, RunOptions(tmp_path / "second"), config=stored)
    assert answers(stored.parent) == answers(tmp_path / "second")


def test_results_are_overwritten_only_when_asked_and_nothing_else_is(tmp_path: Path) -> None:
    path = project(tmp_path)
    run_study(Certify, config=path)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"results.jsonl: there are results already; use --resume, --overwrite or"):
        run_study(Certify, config=path)
    run_study(Certify, RunOptions(overwrite=True), config=path)
    assert len(rows_of(tmp_path / "out")) == 6
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_images_go_through_a_run(tmp_path: Path) -> None:
    found = run(project(tmp_path, {"region": {"epsilon": 0.01}}, conv(seed=3)), tmp_path / "out")
    loaded = Certify.prepare(Certify.load(tmp_path / "run.yaml"))
    assert loaded.samples[0].x.shape == (2, 6, 6)
    assert list(found[0].widths) == [*loaded.network.pre_activations, loaded.network.output.name]


# Tables ---------------------------------------------------------------------------------------------------------------


def rows(method: str, verdicts: str, margins: list[float | None]) -> list[CertifyRow]:
    words = {"v": Verdict.VERIFIED, "u": Verdict.UNKNOWN, "m": Verdict.MISCLASSIFIED}
    return [
        CertifyRow(i, 0, 0, method, words[v], None if m is None else (m,), m, 2.0)
        for i, (v, m) in enumerate(zip(verdicts, margins, strict=True))
    ]


def test_summary_and_what_only_joint_methods_verify() -> None:
    items = [
        "deeppoly",
        {"name": "krelu-lp", "k": 1, "label": "one"},
        {"name": "krelu-lp", "k": 2},
        {"name": "krelu-lp"},
    ]
    methods = [named_method(item, "x") for item in items]
    found = [
        *rows("deeppoly", "uuvm", [-3.0, -2.0, 4.0, None]),
        *rows("one", "vuvm", [1.0, -1.0, 4.0, None]),
        *rows("krelu-lp k=2", "vvvm", [2.0, 1.0, 4.0, None]),
        *rows("krelu-lp", "vvum", [2.0, 1.0, -1.0, None]),
    ]
    assert joint_gains(methods, found) == (
        "Sample 1 is verified by krelu-lp k=2 and by no single-neuron method.\n"
        "Sample 1 is verified by krelu-lp and by no single-neuron method."
    )
    assert joint_gains(methods[:2], found) is None
    assert joint_gains(methods[2:], found) is None
    assert "by a single-neuron method too" in (joint_gains(methods, [r for r in found if r.index != 1]) or "")
    summaries = summarise(methods, [replace(row, widths={"a": 2.0}) for row in found])
    assert summaries[0].verdicts[Verdict.UNKNOWN] == 2
    assert (summaries[0].median_margin, summaries[0].mean_margin) == (-2.0, -1 / 3)
    assert summaries[0].widths == {"a": 2.0}
    assert [c.header for c in summary_table(summaries, tight=True).columns][1:4] == [
        "verified",
        "unknown",
        "misclassified",
    ]
    assert margins_table(found, [m.label for m in methods], most=2).row_count == 2


def test_compare_writes_tables_and_plots(tmp_path: Path) -> None:
    path = project(tmp_path, {"methods": ["interval", "deeppoly", {"name": "krelu-lp", "k": 2}]})
    run_study(Compare, config=path)
    out = tmp_path / "out"
    tables = {name: (out / f"{name}.csv").read_text().splitlines() for name in ("comparison", "margins", "widths")}
    assert [len(lines) for lines in tables.values()] == [4, 19, 4]
    assert tables["widths"][0] == "layer,interval,deeppoly,krelu-lp k=2"
    interval, deeppoly, krelu = (float(v) for v in tables["widths"][-1].split(",")[1:])
    assert interval >= deeppoly >= krelu
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "comparison.svg").read_text().startswith("<?xml")
    assert yaml.safe_load((out / "config.yaml").read_text())["tight"] is True


def test_compare_of_samples_that_no_method_bounds(tmp_path: Path) -> None:
    run_study(Compare, config=project(tmp_path, {"data": {"csv": "data.csv", "first": 5}}))
    assert (tmp_path / "out" / "comparison.png").exists()


def test_folder_takes_mappings_and_has_no_number_that_json_has_not(tmp_path: Path) -> None:
    (tmp_path / "curve.svg").write_text("of an earlier run")
    (tmp_path / "notes.svg").write_text("somebody's")
    folder = Folder(tmp_path, besides=("curve.*",))
    folder.append({"name": "a", "values": {"x": float("inf")}, "corners": [(0.5, float("nan"))]})
    folder.append(CertifyRow(3, 1, 1, "deeppoly", lower_bounds=(float("-inf"), 1.0)))
    first, second = rows_of(tmp_path)
    assert first == {"name": "a", "values": {"x": None}, "corners": [[0.5, None]]}
    assert (second["index"], second["lower_bounds"], folder.count) == (3, [None, 1.0], 2)
    assert {file.name for file in tmp_path.iterdir()} == {".lock", "notes.svg", "results.jsonl"}


@pytest.mark.parametrize(
    ("change", "end"),
    [
        ({"netwrok": "x"}, "; did you mean 'network'?"),
        ({"region": {"epsilom": 1}}, "; did you mean 'epsilon'?"),
        ({"methods": ["deeppoli"]}, "; did you mean 'deeppoly'?"),
        ({"methods": [{"name": "krelu", "preset": "tigt"}]}, "; did you mean 'tight'?"),
        ({"methods": [{"name": "krelu", "prset": "tight"}]}, "; did you mean 'preset'?"),
        ({"methods": ["zzz"]}, ", complete"),
    ],
)
def test_a_word_that_is_nearly_one_is_answered_with_it(tmp_path: Path, change: dict[str, Any], end: str) -> None:
    with pytest.raises(InputError) as caught:
        load_config(project(tmp_path, change), CertifyConfig)
    assert str(caught.value).endswith(end)
