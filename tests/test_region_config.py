"""Regions of configurations: epsilon and clip in every form, fixed entries, normalised images, several epsilons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from networks import conv, dense
from torch import Tensor

import kreludomain as kd
from kreludomain.run.certify.rows import certified_accuracy, csv_files, summarise
from kreludomain.run.certify.study import Certify
from kreludomain.run.engine.runner import run_study
from kreludomain.run.report.page import report

#: Height, width and channels of the images, in the order of the file, and their normalisation.
SHAPE = (6, 6, 2)
MEAN, STD = [0.4, 0.5], [0.2, 0.25]
RAW = {"csv": "raw.csv", "scale": 255, "layout": "hwc", "normalise": {"mean": MEAN, "std": STD}}
READY = {"csv": "ready.csv", "normalise": {"mean": MEAN, "std": STD, "applied": True}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution and images for it, as they are and normalised; a table with a header and its network; files."""
    path = tmp_path_factory.mktemp("regions")
    (path / "conv.onnx").write_bytes(kd.to_onnx(conv(seed=3)))
    (path / "table.onnx").write_bytes(kd.to_onnx(dense(4, 8, 3, seed=1)))
    (path / "flat.onnx").write_bytes(kd.to_onnx(dense(147, 3, seed=1)))
    images = np.random.default_rng(0).integers(0, 256, (3, *SHAPE))
    normalised = ((images / 255 - MEAN) / STD).transpose(0, 3, 1, 2).astype(np.float32)
    labels = kd.load(path / "conv.onnx")(torch.from_numpy(normalised).double()).argmax(1).tolist()
    write(path / "raw.csv", [[label, *image.flatten()] for label, image in zip(labels, images, strict=True)])
    write(path / "ready.csv", [[label, *image.flatten()] for label, image in zip(labels, normalised, strict=True)])
    points = torch.rand(2, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    labels = kd.load(path / "table.onnx")(points).argmax(1).tolist()
    write(path / "points.csv", [[label, *x.tolist()] for label, x in zip(labels, points, strict=True)])
    write(path / "flat.csv", [[0, *np.full(147, 0.5)]])
    table = [
        ["class", "age", "eps", "sex", "height", "weight"],
        [0, 0.1, 0.01, 1, 0.5, 0.3],
        [1, 0.2, 0.02, 0, 0.4, 0.9],
    ]
    write(path / "table.csv", table)
    np.save(path / "eps.npy", np.arange(72).reshape(2, 6, 6) / 1000)
    write(path / "eps.csv", [["8/255", 0.1]])
    np.save(path / "mask.npy", np.arange(36).reshape(6, 6) % 2)
    write(path / "clip.csv", [[0, 0.25], [1, 0.75]])
    return path


def write(path: Path, rows: list[list[Any]]) -> None:
    path.write_text("\n".join(",".join(map(str, row)) for row in rows) + "\n")


def prepared(
    folder: Path, region: Any, data: dict[str, Any] | None = None, network: str = "conv", **more: Any
) -> Certify:
    values = {
        "network": f"{network}.onnx",
        "data": data or RAW,
        "region": region,
        "methods": ["deeppoly"],
        "output": "out",
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(values | more))
    return Certify.prepare(Certify.load(folder / "run.yaml"))


def same(found: kd.Region, expected: kd.Region, atol: float = 1e-12) -> None:
    """Whether regions are the same, by their boxes and the minima of some expressions."""
    assert type(found) is type(expected)
    shape = found.lower.shape
    found, expected = (region._map(lambda value: value[None]) for region in (found, expected))
    torch.testing.assert_close(found.lower, expected.lower, rtol=0, atol=atol)
    torch.testing.assert_close(found.upper, expected.upper, rtol=0, atol=atol)
    a = torch.randn(1, 5, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(found.concretise(a), expected.concretise(a), rtol=0, atol=100 * atol)


def channels(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1)


@pytest.mark.parametrize("norm", ["Linf", "l2", 1])
@pytest.mark.parametrize("data", [RAW, READY], ids=["raw", "ready"])
def test_epsilon_and_clip_are_in_the_units_of_the_image(folder: Path, data: dict[str, Any], norm: str | int) -> None:
    study = prepared(folder, {"norm": norm, "epsilon": "16/255", "clip": [0, 1]}, data)
    images = np.loadtxt(folder / "raw.csv", delimiter=",")[:, 1:].reshape(-1, *SHAPE).transpose(0, 3, 1, 2) / 255
    through = kd.Normalisation(channels(*MEAN), channels(*STD))
    for sample, image in zip(study.samples, images, strict=True):
        torch.testing.assert_close(sample.x, through(image), rtol=0, atol=1e-6)
        expected = kd.ball(image, 16 / 255, norm, clip=(0, 1), normalise=through)
        same(study.around.region(sample), expected, 1e-12 if data is RAW else 1e-6)


ROWS_AND_COLUMNS = torch.arange(36, dtype=torch.float64).reshape(6, 6)
FIRST_COLUMN = torch.zeros(2, 6, 6, dtype=torch.bool)
FIRST_COLUMN[:, 0, 0] = True
PLAIN = {"csv": "raw.csv", "scale": 255, "layout": "hwc"}


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ({"epsilon": ["8/255", 0.1]}, {"epsilon": channels(8 / 255, 0.1)}),
        ({"epsilon": {"file": "eps.csv"}}, {"epsilon": channels(8 / 255, 0.1)}),
        ({"epsilon": {"file": "eps.npy"}}, {"epsilon": torch.arange(72, dtype=torch.float64).reshape(2, 6, 6) / 1000}),
        ({"epsilon": [0.0, 0.1] * 36}, {"epsilon": channels(0.0, 0.1)}),  # in the order of the data
        ({"epsilon": 0.1, "clip": [0, [0.9, "9/10"]]}, {"epsilon": 0.1, "clip": (0.0, 0.9)}),
        (
            {"epsilon": 0.3, "clip": {"file": "clip.csv"}},
            {"epsilon": 0.3, "clip": (channels(0, 0.25), channels(1, 0.75))},
        ),
        ({"epsilon": 0.1, "mask": "mask.npy"}, {"epsilon": 0.1, "mask": ROWS_AND_COLUMNS % 2}),
        ({"epsilon": 0.1, "fixed": [0, 1]}, {"epsilon": 0.1, "fixed": FIRST_COLUMN}),
    ],
    ids=lambda value: ",".join(value),
)
def test_numbers_are_for_all_entries_channels_or_each(
    folder: Path, region: dict[str, Any], expected: dict[str, Any]
) -> None:
    study = prepared(folder, region, PLAIN | {"count": 1})
    x = torch.from_numpy(np.full((2, 6, 6), 0.5))
    sample = kd.data.Sample(0, 0, x)
    same(study.around.region(sample), kd.ball(x, **expected))


@pytest.mark.parametrize("layout", ["hwc", "chw"])
def test_channels_of_flat_images_lie_as_the_data_says(folder: Path, layout: str) -> None:
    study = prepared(folder, {"epsilon": [0.1, 0.2, 0.3]}, {"csv": "flat.csv", "layout": layout}, "flat")
    width = (study.around.region(study.samples[0]).upper - 0.5).reshape((7, 7, 3) if layout == "hwc" else (3, 7, 7))
    expected = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    torch.testing.assert_close(width[0, 0] if layout == "hwc" else width[:, 0, 0], expected)


def test_columns_of_a_table(folder: Path) -> None:
    """A distance for each row, and columns by name that keep their value."""
    data = {"csv": "table.csv", "header": True, "label": "class", "epsilon": "eps"}
    study = prepared(folder, {"fixed": ["sex"], "clip": [0, 1]}, data, "table")
    regions = [study.around.region(sample) for sample in study.samples]
    expected = torch.tensor([[0.1, 1.0, 0.5, 0.3], [0.2, 0.0, 0.4, 0.9]], dtype=torch.float64)
    for region, x, epsilon in zip(regions, expected, (0.01, 0.02), strict=True):
        same(region, kd.ball(x, epsilon, clip=(0, 1), fixed=[1]))
    assert study.config.region.words == "each entry off by at most its own epsilon, entries within [0, 1], fixed: sex"


MISTAKES: dict[str, tuple[Any, str]] = {
    "missing": ({}, "region.epsilon: missing; a column with each sample's is named in data: epsilon: COLUMN"),
    "text": ({"epsilon": "small"}, "region.epsilon: input should be a number, not 'small'"),
    "colon": (
        {"epsilon": "8:255"},
        "region.epsilon: input should be a number or a fraction such as 8/255, not '8:255'",
    ),
    "percent": ({"epsilon": "3%"}, "region.epsilon: input should be a number or a fraction such as 8/255, not '3%'"),
    "by zero": ({"epsilon": "8/0"}, "region.epsilon: '8/0' is not a number or a fraction such as 8/255"),
    "negative": ({"epsilon": "-8/255"}, "region.epsilon: input should be 0 or more, not '-8/255'"),
    "negative entry": ({"epsilon": [0.1, -1]}, "region.epsilon[1]: input should be 0 or more, not -1"),
    "count": (
        {"epsilon": [1, 2, 3]},
        "region.epsilon: 3 values, the network's input is 2 x 6 x 6; give 1, 2 (one a channel) or 72",
    ),
    "ragged": ({"epsilon": [[1], [2, 3]]}, "region.epsilon: has lists of different lengths"),
    "no list": ({"epsilon": []}, "region.epsilon: should have at least one item"),
    "no file": ({"epsilon": {"file": "no.csv"}}, "no.csv: no such file"),
    "no numbers": (
        {"epsilon": {"file": "table.csv"}},
        "table.csv: line 1: 'class' is not a number or a fraction such as 8/255",
    ),
    "kind of file": ({"epsilon": {"file": "conv.onnx"}}, "conv.onnx: a .npy or .csv file is expected"),
    "column": ({"epsilon": {"column": "eps"}}, "region.epsilon: a column with each sample's epsilon is named in data"),
    "both": ({"epsilon": 0.1, "epsilons": [0.1]}, "region.epsilons: give epsilon or epsilons, not both"),
    "twice": ({"epsilons": [0.1, "1/10"]}, "region.epsilons[1]: 1/10 is there twice"),
    "lists": (
        {"epsilons": [[0.1, 0.2]]},
        "region.epsilons[0]: should be one number; one for each entry is for epsilon",
    ),
    "norm": ({"epsilon": 0.1, "norm": "l3"}, "region.norm: 'l3' is not 'inf', '1' or '2'"),
    "one side": (
        {"epsilon": 0.1, "clip": [0]},
        "region.clip: should be [low, high], a number or a list each, not 1 items",
    ),
    "empty clip": ({"epsilon": 0.1, "clip": ["2/2", 0]}, "region.clip: [2/2, 0] is empty"),
    "rows of a clip": (
        {"epsilon": 0.1, "clip": {"file": "mask.npy"}},
        "region.clip: RUN/mask.npy: two rows or columns are",
    ),
    "normalise": (
        {"epsilon": 0.1, "normalise": {"mean": 0}},
        "region.normalise: stands in data, for the values, epsilon and clip alike",
    ),
    "name": (
        {"epsilon": 0.1, "fixed": ["age"]},
        "region.fixed[0]: there is no feature 'age'; the data names none, so give its number, from 0",
    ),
    "position": (
        {"epsilon": 0.1, "fixed": [72]},
        "region.fixed[0]: there is no feature 72; they are 0 to 71",
    ),
    "no columns": (
        {"epsilon": 0.1, "fixed": 3},
        "region.fixed: input should be a list of features, by name or number, not 3",
    ),
    "mask": ({"epsilon": 0.1, "mask": "eps.npy"}, "region.mask: RUN/eps.npy: has numbers other than 0 and 1"),
    "units": ({"epsilon": 0.01, "clip": [0, 0.1]}, "outside clip [-2, -1.5]"),
}


@pytest.mark.parametrize(("region", "message"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_is_a_line_that_says_what_is_meant(folder: Path, region: Any, message: str) -> None:
    with pytest.raises(kd.InputError) as error:
        prepared(folder, region)
    assert message.replace("RUN", str(folder)) in str(error.value)
    assert "\n" not in str(error.value)


def test_files_are_found_from_the_run_and_their_numbers_belong_to_it(folder: Path, tmp_path: Path) -> None:
    region = {"epsilon": {"file": "eps.npy"}, "mask": "mask.npy"}
    study = prepared(folder, region)
    stored = yaml.safe_load(Certify.load(folder / "run.yaml").resolved(folder / "out", {}))
    assert stored["region"] == {"norm": "inf", "epsilon": {"file": "../eps.npy"}, "mask": "../mask.npy"}
    assert prepared(folder, region).contents() == study.contents()
    np.save(folder / "other.npy", np.arange(72).reshape(2, 6, 6) / 1001)
    assert (
        prepared(folder, region | {"epsilon": {"file": "other.npy"}}).contents()["region"] != study.contents()["region"]
    )
    assert "region" not in prepared(folder, {"epsilon": 0.1}, PLAIN).contents()


def test_several_epsilons_in_one_run(folder: Path) -> None:
    """A row a sample, method and epsilon, each as in a run of its own; tables, CSV, plots and the report have them."""
    more = {"methods": ["interval", {"name": "krelu-lp", "k": 2}], "attack": False, "output": "sweep"}
    points = {"csv": "points.csv"}
    prepared(folder, {"epsilons": ["1/255", 0.3]}, points, "table", **more)
    run_study(Certify, config=folder / "run.yaml")
    rows = [Certify.read_row(row) for row in read(folder / "sweep")]
    assert len(rows) == len({row.key for row in rows}) == 2 * 2 * 2
    alone = prepared(folder, {"epsilon": 0.3}, points, "table", **more)
    for task in alone.tasks():
        if task.method.name == "interval":
            row = alone.compute(task, None).row
            (found,) = [r for r in rows if (r.index, r.method, r.epsilon) == (row.index, "interval", 0.3)]
            assert found.lower_bounds == pytest.approx(row.lower_bounds, rel=1e-9)
            assert (row.epsilon, row.key) == (None, (row.index, "interval"))
    summaries = summarise(alone.config.methods, rows)
    assert [s.series for s in summaries][:2] == ["interval, epsilon 0.003922", "interval, epsilon 0.3"]
    curves = certified_accuracy(rows)
    epsilons = {method: [epsilon for epsilon, _ in curve] for method, curve in curves.items()}
    assert epsilons == {"interval": [1 / 255, 0.3], "krelu-lp k=2": [1 / 255, 0.3]}
    assert all(first >= last for (_, first), (_, last) in curves.values())
    assert curves["krelu-lp k=2"][0] == (1 / 255, 1.0)
    assert csv_files(summaries, rows)["margins.csv"].startswith(
        "index,label,name,target,predicted,method,epsilon,verdict"
    )
    assert (folder / "sweep" / "certified_accuracy.svg").exists()
    report([folder / "sweep"], None)
    assert "<h2>Certified accuracy</h2>" in (folder / "sweep" / "report.html").read_text()
    again = Certify.prepare(Certify.load(folder / "sweep" / "config.yaml"))
    assert {task.key for task in again.tasks()} == {row.key for row in rows}  # what a resumed run goes by


def read(folder: Path) -> list[dict[str, Any]]:
    return [yaml.safe_load(line) for line in (folder / "results.jsonl").read_text().splitlines()]
