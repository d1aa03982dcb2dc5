"""The report: a page that needs nothing besides, with the right numbers, for images and for inputs that are none."""

from __future__ import annotations

import base64
import csv
import io
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from matplotlib.image import imread
from networks import conv, dense
from test_cli import call, is_refused
from test_onnx import model, op, values
from test_run import project, rows_of

from kreludomain import Network, Verdict, to_onnx
from kreludomain.network import parse_onnx
from kreludomain.run.certify.study import Certify
from kreludomain.run.engine.record import Record
from kreludomain.run.engine.runner import run_study
from kreludomain.run.report.data import FinishedRun, as_image, closest, longest, read_runs
from kreludomain.run.report.page import image, page
from kreludomain.verify import predict

VOID = {"img", "meta", "br"}


class Page(HTMLParser):
    """Rows of cells by table, images, and what would have to be fetched; nothing is left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.images: list[str] = []
        self.fetched: list[str] = []
        self.identifiers: list[str] = []
        self.headings: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        for name, value in attrs:
            if name == "id":
                self.identifiers.append(value or "")
            if tag == "img" and name == "src":
                self.images.append(value or "")
            if name in ("src", "href", "xlink:href") and not (value or "").startswith(("data:", "#")):
                self.fetched.append(value or "")
        assert tag not in ("script", "link", "iframe")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data
        if self._open and self._open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data)


def read(path: Path) -> Page:
    text = path.read_text(encoding="utf-8")
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    found = Page(text)
    assert found.fetched == []
    assert len(set(found.identifiers)) == len(found.identifiers)
    return found


METHODS = ["interval", {"name": "krelu-lp", "k": 2}]


def finished(folder: Path, *arguments: object) -> Path:
    run_study(Certify, config=project(folder, *arguments))  # type: ignore[arg-type]
    return folder / "out"


def test_the_numbers_are_those_of_the_rows(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = finished(tmp_path, {"methods": METHODS, "region": {"epsilon": 0.3}})
    capfd.readouterr()
    files = "report.html, report_comparison.csv, report_margins.csv, report_widths.csv"
    assert call(capfd, "report", out) == (0, f"{files} are in {out}\n", "")
    page, rows = read(out / "report.html"), rows_of(out)
    words = {line[0]: line[1] for line in page.tables[0]}
    assert words["Network"] == "net.onnx (4 inputs, 16 activations, 3 outputs)"
    assert words["Region"] == "each entry off by at most 0.3"
    assert words["Methods"] == "interval; krelu-lp k=2"
    header, *lines = page.tables[1]
    for line in lines:
        counts = Counter(row["verdict"] for row in rows if row["method"] == line[0])
        shown = {verdict: int(n) for verdict, n in zip(header[1:-3], line[1:-3], strict=True)}
        assert {verdict: n for verdict, n in shown.items() if n} == counts
    assert len(lines) == 2
    falsified = {row["index"] for row in rows if row["verdict"] == "falsified"}
    assert falsified
    for index in falsified:
        assert sum(heading.startswith(f"Sample {index}, label ") for heading in page.headings) == 1
    values = [table for table in page.tables if table[0][0] == "entry" and len(table[0]) == 4]
    assert len(values) == len(falsified)
    for _, original, change, broken in (line for table in values for line in table[1:]):
        assert float(original) + float(change) == pytest.approx(float(broken), rel=1e-2, abs=1e-3)
        assert abs(float(change)) <= 0.3
    table = list(csv.DictReader(io.StringIO((out / "report_margins.csv").read_text())))
    assert [(int(line["index"]), line["method"], line["verdict"]) for line in table] == sorted(
        (row["index"], row["method"], row["verdict"]) for row in rows
    )


def test_several_runs_are_side_by_side_with_pictures_of_images(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = finished(tmp_path / "a", {"methods": ["interval", "deeppoly"]}, conv(seed=3))
    second = finished(tmp_path / "b", {"region": {"epsilon": 2.0, "clip": [0, 1]}}, dense(147, 8, 3, seed=2))
    capfd.readouterr()
    assert call(capfd, "report", first, second, "--output", tmp_path / "both")[0] == 0
    page = read(tmp_path / "both" / "report.html")
    assert page.tables[0][0][1:] == ["a/out", "b/out"]
    assert [line[0] for line in page.tables[1][1:]] == ["a/out: interval", "a/out: deeppoly", "b/out: deeppoly"]
    falsified = {row["index"] for row in rows_of(second) if row["verdict"] == "falsified"}
    assert falsified
    assert len(page.images) >= 3 * len(falsified)  # the 7 x 7 colours; the first run's two channels are no image


def test_data_that_has_changed_is_not_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = finished(tmp_path, {"region": {"epsilon": 2.0}})
    data = (tmp_path / "data.csv").read_text().splitlines()
    (tmp_path / "data.csv").write_text("\n".join(data[::-1]))
    capfd.readouterr()
    assert call(capfd, "report", out)[0] == 0
    assert "the data changed since the run" in (out / "report.html").read_text()
    assert not [table for table in read(out / "report.html").tables if table[0][0] == "entry"]
    (tmp_path / "data.csv").unlink()
    assert call(capfd, "report", out)[0] == 0
    assert "data.csv: no such file" in (out / "report.html").read_text()


def test_hard_samples_come_first(tmp_path: Path) -> None:
    out = finished(tmp_path, {"methods": METHODS, "region": {"epsilon": 0.2}})
    runs, rows = read_runs([out]), rows_of(out)
    solved = {row["index"] for row in rows if row["verdict"] in ("verified", "falsified")}
    left = {row["index"] for row in rows if row["verdict"] == "unknown"} - solved
    found = closest(runs)
    assert {hard.row.index for hard in found} == left
    margins = [abs(hard.row.margin or 0.0) for hard in found]
    assert margins == sorted(margins)
    seconds = [hard.row.seconds for hard in longest(runs)]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[0] == max(row["seconds"] for row in rows)


def test_what_is_no_run_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    is_refused(call(capfd, "report", tmp_path / "none"), "results.jsonl: no such file; a report is about the folder")
    is_refused(call(capfd, "report"), "Missing argument 'RUN...'")
    out = finished(tmp_path)
    capfd.readouterr()
    is_refused(call(capfd, "report", out, out), "given twice")
    (out / "results.jsonl").write_text('{"index": 3}\n')
    is_refused(call(capfd, "report", out), "results.jsonl: not the rows of certify or compare")


def test_inputs_that_are_images_and_those_that_are_not() -> None:
    colours = np.arange(3 * 8 * 8).reshape(3, 8, 8)
    picture = colours.transpose(1, 2, 0)
    for x, layout in [(colours, "chw"), (picture, "hwc"), (colours.flatten(), "chw"), (picture.flatten(), "hwc")]:
        found = as_image(x, layout)
        assert found is not None
        assert np.array_equal(found, picture)
    for shape in [(1, 8, 8), (8, 8, 1), (8, 8), (64,), (64, 1, 1)]:
        found = as_image(np.arange(64).reshape(shape))
        assert found is not None
        assert np.array_equal(found[:, :, 0], np.arange(64).reshape(8, 8))
    for shape in [(5,), (2, 8, 8), (36,), (65,), (1,)]:
        assert as_image(np.zeros(shape)) is None
    assert as_image(picture, "chw") is None
    assert as_image(colours, None) is None


def test_brightness_is_the_value(tmp_path: Path) -> None:
    uri = image(np.array([[[-1.0], [0.0], [0.5], [1.0], [2.0]]]), 0.0, 1.0)

    pixels = imread(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert pixels[0, :, 0] == pytest.approx([0, 0, 0.5, 1, 1], abs=0.01)


def in_process(folder: Path, network: Network, data: dict[str, Any], epsilon: float) -> FinishedRun:
    """A run of ``deeppoly`` whose rows are computed here."""
    (folder / "net.onnx").write_bytes(to_onnx(network))
    config = {"network": "net.onnx", "data": data, "region": {"epsilon": epsilon}, "methods": ["deeppoly"]}
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    file = Certify.load(folder / "run.yaml")
    study = Certify.prepare(file)
    computed = [study.compute(task, None) for task in study.tasks()]
    for name, content in [item for each in computed for item in each.files.items()]:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    rows = tuple(each.row for each in computed)
    assert [row.verdict for row in rows] == [Verdict.FALSIFIED]
    return FinishedRun(folder.name, file, Record("certify", {}, {}), rows, file.config.methods, study)


def test_tables_have_the_names_of_the_data(tmp_path: Path) -> None:
    x = torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64)
    network = dense(3, 8, 2, seed=1)
    kind = ["iris", "rose"][int(predict(network, x)[0])]
    (tmp_path / "a.csv").write_text(f"kind,sepal,petal,width\n{kind},0.1,0.2,0.3\n")
    run = in_process(tmp_path, network, {"csv": "a.csv", "header": True, "classes": ["iris", "rose"]}, 5.0)
    table = next(table for table in Page(page([run])).tables if table[0][:1] == ["entry"] and len(table[0]) == 4)
    other = {"iris": "rose", "rose": "iris"}[kind]
    assert table[0] == ["entry", f"original: {kind}", "change", f"counterexample: {other}"]
    assert [line[:2] for line in table[1:]] == [["sepal", "0.1"], ["petal", "0.2"], ["width", "0.3"]]


def test_images_with_their_channels_last_are_shown(tmp_path: Path) -> None:
    nodes = [op("Transpose", "x", output="t", perm=[0, 3, 1, 2]), op("Conv", "t", "w", output="c"), op("Flatten", "c")]
    network = parse_onnx(model(nodes, {"w": values(1, 3, 4, 3)}, (1, 4, 4, 3)))
    picture = np.random.default_rng(0).random((1, 4, 4, 3))
    label = int(predict(network, torch.tensor(picture))[0])
    np.savez(tmp_path / "a.npz", x=picture.transpose(0, 3, 1, 2), y=[label])  # data with its channels first
    run = in_process(tmp_path, network, {"npz": "a.npz", "layout": "chw"}, 2.0)
    shown = Page(page([run])).images
    assert len(shown) == 1 + 3  # the longest, and the original, the change and the counterexample
    original = imread(io.BytesIO(base64.b64decode(shown[1].partition(",")[2])))
    scaled = (picture[0] - picture.min()) / (picture.max() - picture.min())
    assert np.corrcoef(original[:, :, :3].flatten(), scaled.flatten())[0, 1] > 0.999
