"""Samples from what people have: tables, arrays, images of either layout; and what is said where it does not fit."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import conv, dense
from test_onnx import model, op, values
from torch import Tensor, nn

import kreludomain as kd
from kreludomain import InputError, Network, Sample
from kreludomain.data.csv_file import guessed_delimiter
from kreludomain.network import channels_first, parse_onnx
from kreludomain.run.certify.study import Certify
from kreludomain.run.moments.study import MomentsStudy

IRIS = """\
sepal,petal,width,species
5.1,1.4,0.2,setosa
7.0,4.7,1.4,versicolor

6.3,6.0,2.5,virginica
"""
NAMES = ["setosa", "versicolor", "virginica"]
NET, IMAGES = dense(3, 3), conv()  # 3 values; channels, height, width = 2, 6, 6


def write(folder: Path, text: str | bytes, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def said(source: Any, network: Network = NET, **keys: Any) -> str:
    with pytest.raises(InputError) as error:
        kd.samples(source, network, **keys)
    text = str(error.value)
    assert "\n" not in text
    return text.replace(f"{source}: ", "")


def entries(samples: tuple[Sample, ...]) -> list[list[float]]:
    return [sample.x.flatten().tolist() for sample in samples]


# Tables ---------------------------------------------------------------------------------------------------------------


def test_rows_are_labels_and_values(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeff7, 1 ,2,0\n\n3.0,3,4e0,0\r\n,\n2,5,6,0\n")
    found = kd.samples(path, NET)
    assert [(s.index, s.label, s.name, s.target) for s in found] == [
        (0, 7, None, None),
        (1, 3, None, None),
        (2, 2, None, None),
    ]
    assert entries(found) == [[1, 2, 0], [3, 4, 0], [5, 6, 0]]
    assert found[0].x.dtype == torch.float64
    assert [s.index for s in kd.samples(path, NET, first=1, count=1, scale=2)] == [1]
    assert entries(kd.samples(path, NET, first=1, count=1, scale=2)) == [[1.5, 2, 0]]


def test_columns_are_named_by_the_header(tmp_path: Path) -> None:
    path = write(tmp_path, IRIS)
    found = kd.samples(path, NET, header=True, label="species", classes=NAMES)
    assert [(s.label, s.name) for s in found] == [(0, "setosa"), (1, "versicolor"), (2, "virginica")]
    assert entries(found)[2] == [6.3, 6.0, 2.5]
    assert entries(kd.samples(path, NET, header=True, label=-1, classes=NAMES, columns=["width", 0, "petal"]))[0] == [
        0.2,
        5.1,
        1.4,
    ]
    regression = kd.samples(path, dense(2, 1), header=True, target="width", drop=["species"])
    assert [(s.label, s.target) for s in regression] == [(None, 0.2), (None, 1.4), (None, 2.5)]
    near = kd.samples(path, dense(2, 3), header=True, label=-1, epsilon="width", classes=NAMES)
    assert [float(s.epsilon) for s in near if s.epsilon is not None] == [0.2, 1.4, 2.5]
    assert [s.label for s in kd.samples(path, NET, header=True, label=None, drop=["species"])] == [None] * 3


def test_names_without_classes_are_sorted_and_that_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, IRIS.replace("setosa", "zinnia"))
    found = kd.samples(
        path, NET, header=True, label="species", first=1
    )  # the order is that of all rows, also of those left out
    assert [(s.index, s.label, s.name) for s in found] == [(1, 0, "versicolor"), (2, 1, "virginica")]
    assert "classes: [versicolor, virginica, zinnia] (sorted)" in caplog.text
    assert "3 different names, the network has 2 outputs; give all classes" in said(
        path, dense(3, 2), header=True, label=-1
    )


def test_a_header_of_numbers_is_doubted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = kd.samples(write(tmp_path, "0,1.5,2,3\n1,4,5,6\n"), NET, header=True)
    assert len(found) == 1
    assert "all its cells are numbers" in caplog.text


def test_classes_number_labels_that_do_not_count_from_zero(tmp_path: Path) -> None:
    path = write(tmp_path, "-1,0,0,0\n1.0,0,0,0\n")
    assert [s.label for s in kd.samples(path, NET, classes=[1, -1])] == [1, 0]
    assert "line 1: the label -1 is below 0; classes: [-1, ...] numbers" in said(path)
    assert said(path, classes=[1, 2]) == "line 1: the label -1 is none of the classes 1, 2"
    assert "5 classes, the network has 3 outputs" in said(path, classes=[-1, 1, 2, 3, 4])


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", " "])
def test_delimiters_are_found_by_looking(tmp_path: Path, delimiter: str) -> None:
    path = write(tmp_path, IRIS.replace(",", delimiter))
    assert len(kd.samples(path, NET, header=True, label=-1, classes=NAMES)) == 3
    assert len(kd.samples(path, NET, header=True, label=-1, classes=NAMES, delimiter=delimiter)) == 3
    assert guessed_delimiter(f'"a;b, c"{delimiter}1') == delimiter


def test_quoted_cells_packed_files_and_an_index_of_pandas(tmp_path: Path) -> None:
    text = ',"sepal, cm",petal,width,species\n54,"5.1",1,2,"say ""a"""\n7,5,1,2,b\n'
    path = write(tmp_path, gzip.compress(text.encode()), "a.csv.gz")
    found = kd.samples(path, dense(3, 2), header=True, label="species", first=0)
    assert [(s.index, s.name) for s in found] == [(0, 'say "a"'), (1, "b")]
    assert entries(found)[0] == [5.1, 1, 2]
    assert kd.samples(path, dense(3, 2), header=True, label="species", first=1)[0].name == "b"
    named = write(tmp_path, text.replace(",", "id,", 1))
    assert entries(kd.samples(named, dense(3, 2), header=True, index="id", label="species"))[1] == [5, 1, 2]


@pytest.mark.parametrize(
    ("text", "keys", "message"),
    [
        ("", {}, "there are no rows"),
        ("1,2,3,4\n", {"first": 1}, "there is 1 row (number 0), row 1 does not exist"),
        ("1,2,3,5\n1,2,3,4", {"count": 3}, "there are 2 rows (from 0), rows 0 to 2 do not exist"),
        ("1,2,3,4\n1,2,3", {}, "line 2: 3 cells, line 1 has 4"),
        ("1,2,3,4\n\n1,2,3,x", {}, "line 3: 'x' in column 3 (from 0) is not a finite number"),
        ("1,nan,2,3", {}, "line 1: 'nan' in column 1 (from 0) is not a finite number"),
        ("1,1,2,4\n1,,2,3", {}, "line 2: column 1 (from 0) is blank"),
        ("1.5,0,0,0", {}, "line 1: the label 1.5 is not a whole number; the label is taken to be column 0 (from 0): "),
        ("3,0,0,0\n1,0,0,0", {}, "the labels count from 1: classes: [1, 2, 3]; from 0 they are outputs"),
        ("0,1,2,9\n0,\"1,2,3\n0,1,2,3", {}, "line 3: 2 cells, line 1 has 4; is a quote not closed?"),
        ("[]", {}, "one column, the network takes 3 values; 'delimiter' says what separates columns"),
        ("0,1,2,3%\n0,1,2,4%", {"label": 0}, "line 1: '3%' in column 3 (from 0) is not a number; give words as"),
        (" ,0,0,0\n,1,2,3", {}, "line 1: the label is blank"),
        ("0;1,5;2;3", {}, "line 1: '1,5' in column 1 (from 0) has a comma; numbers are written as 1234.5"),
        ("0,red,2,3\n1,blue,2,3", {}, "line 1: 'red' in column 1 (from 0) is not a number; give words as the numbers"),
        ("1,2,3\n1,2,3", {}, "2 columns of values beside the label (column 0 (from 0)), the network takes 3; if the"),
        ("1,2,3,4,5", {}, "4 columns of values beside the label (column 0 (from 0)), the network takes 3; name a"),
        (b"1,2,\xff\xfe", {}, "not a text file in UTF-8 (line 1)"),
        (b"\x93NUMPY", {}, "not a text file but a .npy file: {npy: FILE}"),
        ("label,a,b,c\n1,2,3,4", {}, "line 1 looks like a header ('label' is not a number): header: true"),
        ("species,a,b,c\nx,2,3,4", {}, "line 1 looks like a header ('a' is not a number): header: true"),
        (",0,1,2\n0,2,3,4", {}, "line 1 looks like a header (its cell 0 (from 0) is blank): header: true"),
        ("0,1,2,3\n5,2,3,4", {}, "line 1 looks like a header (it counts its columns): header: true; or header: false"),
        ("a,b\n1,2", {"label": "a"}, "label: 'a' is a name; if the first line names the columns: header: true"),
        (IRIS, {"header": True, "label": "Specie"}, "label: there is no column 'Specie'; there are "),
        (IRIS, {"header": True, "label": 4}, "label: there is no column 4; they are 0 to 3"),
        ("a,b,a\n1,2,3", {"header": True, "label": "a"}, "label: columns 0 and 2 are both called 'a'; give a position"),
        (IRIS, {"header": True, "label": "petal", "drop": [1]}, "drop: column 'petal' is named by 'label' too"),
        (IRIS, {"columns": [1], "drop": [2]}, "drop: give columns or drop, not both"),
        (IRIS, {"delimiter": "ab"}, "delimiter: "),
        (IRIS, {"seperator": ","}, "seperator: unknown key; known are csv, header, delimiter, label, target, "),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_table_is_one_line(
    tmp_path: Path, text: str | bytes, keys: dict[str, Any], message: str
) -> None:
    assert said(write(tmp_path, text), **keys).startswith(message)


def test_few_rows_of_a_large_table_are_read_quickly(tmp_path: Path) -> None:
    row = "7," + ",".join(["255"] * 784) + "\n"
    path = write(tmp_path, row * 3000)
    wide = kd.from_torch(nn.Linear(784, 2), (784,))
    start = time.process_time()
    few = kd.samples(path, wide, first=2990, count=2, scale=255)
    quick, start = time.process_time() - start, time.process_time()
    kd.samples(path, wide, first=0, count=500)
    assert quick < time.process_time() - start
    assert [s.index for s in few] == [2990, 2991]
    assert float(few[0].x.min()) == 1.0


# Arrays ---------------------------------------------------------------------------------------------------------------

X, Y = np.arange(12.0).reshape(4, 3), np.array([0, 2, 1, 0])


class Pairs:
    """A data set as torch has them, without torch."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return torch.tensor(X[row], dtype=torch.float32), int(Y[row])


class Frame:
    """A table with the interface of pandas that is used."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self.table, self.columns = columns, list(columns)

    def __len__(self) -> int:
        return len(self.table[self.columns[0]])

    def __getitem__(self, part: Any) -> Any:
        if isinstance(part, str):
            return Frame({part: self.table[part]})
        return Frame({name: cells[part] for name, cells in self.table.items()})

    def to_numpy(self) -> np.ndarray:
        return np.array(list(zip(*self.table.values(), strict=True)), dtype=object)


def files(folder: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The same four samples in every way."""
    np.save(folder / "x.npy", X)
    np.save(folder / "y.npy", Y)
    write(folder, "0\n2\n1\n0\n", "y.txt")
    np.savez(folder / "a.npz", x=X, y=Y)
    np.savez(folder / "b.npz", x_train=X[:1], y_train=Y[:1], x_test=X, y_test=Y[:, None])
    np.savez(folder / "c.npz", scans=X, kinds=Y, extra=np.zeros(1))
    torch.save((torch.tensor(X), torch.tensor(Y)), folder / "a.pt")
    torch.save({"images": torch.tensor(X), "labels": torch.tensor(np.eye(3)[Y])}, folder / "b.pt")
    yield folder / "x.npy", {"labels": str(folder / "y.npy")}
    yield folder / "x.npy", {"labels": str(folder / "y.txt")}
    yield folder / "a.npz", {}
    yield folder / "b.npz", {"inputs": "x_test"}
    yield folder / "c.npz", {"inputs": "scans", "labels": "kinds"}
    yield folder / "a.pt", {}
    yield folder / "b.pt", {}
    yield X, {"labels": Y}
    yield X.tolist(), {"labels": Y.tolist()}
    yield torch.tensor(X), {"labels": torch.tensor(Y)}
    yield (X, Y), {}
    yield (torch.tensor(X), torch.tensor(Y).float()), {}
    yield {"X": X, "y": Y}, {}
    yield torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y)), {}
    yield Pairs(), {}
    yield zip(X, Y, strict=True), {}
    table = {name: X[:, column].tolist() for column, name in enumerate("abc")}
    yield Frame({"label": Y.tolist(), **table}), {}
    yield (
        Frame({"a": table["a"], "no": [9] * 4, "b": table["b"], "c": table["c"], "y": Y.tolist()}),
        {
            "label": "y",
            "drop": ["no"],
        },
    )


def test_the_same_samples_come_of_every_kind_of_source(tmp_path: Path) -> None:
    for source, keys in files(tmp_path):
        found = kd.samples(source, NET, first=1, count=2, **keys)
        assert [(s.index, s.label) for s in found] == [(1, 2), (2, 1)], source
        assert entries(found) == X[1:3].tolist(), source


def test_numbers_beside_inputs_are_labels_or_targets() -> None:
    found = kd.samples((X, np.array([0.5, 1, 2, 3])), NET)
    assert [(s.label, s.target) for s in found] == [(None, 0.5), (None, 1), (None, 2), (None, 3)]
    both = kd.samples((X, Y.astype(float)), NET)
    assert [(s.label, s.target) for s in both] == [(0, 0), (2, 2), (1, 1), (0, 0)]
    assert kd.samples(X, NET, epsilon=Y / 10)[1].epsilon == torch.tensor(0.2, dtype=torch.float64)
    assert kd.samples(X, NET, targets=Y)[1].target == 2
    assert [s.name for s in kd.samples(X, NET, labels=["a", "c", "b", "a"])] == ["a", "c", "b", "a"]


def test_what_is_wrong_with_arrays_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("1,2\n")
    np.savez(tmp_path / "b.npz", x_train=X, x_test=X)
    np.save(tmp_path / "o.npy", np.array([{}]), allow_pickle=True)
    torch.save(nn.Linear(1, 1), tmp_path / "m.pt")
    missing = tmp_path / "x.npy"
    assert said(missing).endswith("no such file")
    assert "which array has the inputs? inputs: NAME, labels: NAME; there are x_train, x_test" in said(
        tmp_path / "b.npz"
    )
    assert said(tmp_path / "b.npz", inputs="x") == "inputs: there is no array 'x'; there are x_train, x_test"
    assert "an array of Python objects" in said(tmp_path / "o.npy")
    assert "has other things than tensors" in said(tmp_path / "m.pt")
    assert said(X[0]) == "ndarray: inputs of shape (3,); a row a sample is expected, (samples, ...)"
    assert said(np.zeros((2, 4))).endswith("labels are no part of the inputs, but an array of their own: 'labels'")
    assert said(X[:, :2]) == "ndarray: rows of 2 values, the network takes 3"
    assert said(X, labels=Y[:2]) == "ndarray: 4 inputs, but 2 labels"
    assert said(X, labels=Y / 4).startswith("ndarray: row 1: the label 0.5 is not a whole number")
    assert said(X * np.nan) == "ndarray: row 0: values[0]: nan is not a finite number"
    assert said(np.array([["a"]])) == "ndarray: inputs: an array of <U1, not of numbers"
    assert said(Pairs(), first=9) == "Pairs: there are 4 rows (from 0), row 9 does not exist"
    assert said(torch.utils.data.DataLoader(Pairs())) == "DataLoader: gives batches; pass its data set: loader.dataset"  # type: ignore[arg-type]
    assert said("x.parquet") == ".parquet files are not read; save a CSV file, or give a data frame in Python"
    assert said(Frame({"a": [1, 2], "b": [1, None]}), dense(1, 2)) == "Frame: row 1: column 'b' is blank"


def test_digits_splits() -> None:
    network = dense(64, 2)
    whole = kd.samples("digits", network, split="all")
    test = kd.samples("digits", kd.from_torch(nn.Flatten(), (1, 8, 8)), first=2, count=3)
    assert (len(whole), len(kd.samples("digits", network, split="train"))) == (1797, 1437)
    assert [s.index for s in test] == [2, 3, 4]
    assert torch.equal(test[0].x.flatten(), whole[1439].x)
    assert test[0].label == whole[1439].label
    assert (float(whole[0].x.min()), float(torch.stack([s.x for s in whole]).max())) == (0.0, 1.0)
    assert "digits, test: there are 360 rows (from 0), rows 350 to 360 do not exist" in said(
        "digits", network, first=350, count=11
    )
    assert "digits, test: rows of 64 values, the network takes 65" in said("digits", dense(65, 2))


# Images ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def channels_last() -> Network:
    """Two channels, last, as Keras has them."""
    nodes = [op("Transpose", "x", output="t", perm=[0, 3, 1, 2]), op("Conv", "t", "w")]
    network = parse_onnx(model(nodes, {"w": values(1, 2, 3, 3)}, (1, 6, 6, 2)))
    assert network.input_layout == "hwc"
    return network


def test_images_are_never_scrambled(channels_last: Network) -> None:
    """The entry of a channel at a place is the same, however data and network have it, in rows and in arrays."""
    image = np.arange(72.0).reshape(1, 2, 6, 6)  # channels, height, width
    for layout, lying in (("chw", image), ("hwc", image.transpose(0, 2, 3, 1))):
        for source in (lying, lying.reshape(1, 72)):
            assert np.array_equal(kd.samples(source, IMAGES, layout=layout)[0].x, image[0])
            assert np.array_equal(kd.samples(source, channels_last, layout=layout)[0].x, image[0].transpose(1, 2, 0))
            assert np.array_equal(kd.samples(source, dense(72, 2), layout=layout)[0].x, lying.flatten())
    for network, lying in ((IMAGES, image), (channels_last, image.transpose(0, 2, 3, 1))):
        for layout in (None, "flat"):
            assert np.array_equal(kd.samples(lying.reshape(1, 72), network, layout=layout)[0].x, lying[0])


def test_names_move_with_the_values(tmp_path: Path, channels_last: Network) -> None:
    names = [f"{channel} {row} {column}" for channel in "ab" for row in range(6) for column in range(6)]
    path = write(tmp_path, "\n".join([",".join(names), ",".join(["0"] * 72)]))
    found = kd.samples(path, channels_last, header=True, label=None, layout="chw")[0].names.features
    assert found[:4] == ("a 0 0", "b 0 0", "a 0 1", "b 0 1")
    assert kd.samples(path, IMAGES, header=True, label=None)[0].names.features == tuple(names)


def test_noise_is_on_images_whichever_way_they_lie(tmp_path: Path, channels_last: Network) -> None:
    """What the study of moments has for images with their channels last is what it has for those with them first."""
    image = np.random.default_rng(0).random((1, 2, 6, 6))
    noise = np.diag(np.arange(1.0, 73.0)).reshape(2, 6, 6, 2, 6, 6)
    studies = []
    for name, network, order in (
        ("last", channels_last, (1, 2, 0)),
        ("first", channels_first(channels_last), (0, 1, 2)),
    ):
        write(tmp_path, kd.to_onnx(network), f"{name}.onnx")
        np.save(tmp_path / f"{name}.npy", image[0].transpose(order)[None])
        covariance = noise.transpose(*order, *(axis + 3 for axis in order)).reshape(72, 72)
        np.save(tmp_path / f"covariance_{name}.npy", covariance)
        lines = (f"network: {name}.onnx", f"data: {{npy: {name}.npy}}", f"noise: {{covariance: covariance_{name}.npy}}")
        studies.append(
            MomentsStudy.prepare(MomentsStudy.load(write(tmp_path, "\n".join(lines).encode(), "moments.yaml")))
        )
    last, first = studies
    assert last.shape == first.shape == (2, 6, 6)
    assert torch.equal(last.samples[0].x, first.samples[0].x)
    assert torch.equal(last.network(last.samples[0].x[None]), channels_last(torch.tensor(image.transpose(0, 2, 3, 1))))
    assert all(torch.equal(a, b) for a, b in zip(last.noises.values(), first.noises.values(), strict=True))


def test_one_channel_may_be_left_out() -> None:
    network, image = kd.from_torch(nn.Flatten(), (1, 4, 5)), np.arange(20.0).reshape(1, 4, 5)
    for layout in (None, "chw", "hwc"):
        for source in (image, image[..., None], image[:, None]):
            assert np.array_equal(kd.samples(source, network, layout=layout)[0].x[0], image[0])


def test_contradictions_of_layouts_are_one_line(channels_last: Network) -> None:
    image, last = np.zeros((1, 2, 6, 6)), np.zeros((1, 6, 6, 2))
    takes = "the network takes (2, 6, 6)"
    assert said(last, IMAGES) == f"ndarray: inputs of shape (6, 6, 2), {takes}: layout: hwc"
    assert (
        said(image, IMAGES, layout="hwc")
        == f"ndarray: layout: hwc, but inputs of shape (2, 6, 6), {takes}: layout: chw"
    )
    assert said(image, channels_last).endswith("the network takes (6, 6, 2): layout: chw")
    assert said(np.zeros((1, 6, 2, 6)), IMAGES) == f"ndarray: inputs of shape (6, 2, 6), {takes}"
    unclear = kd.from_torch(nn.Flatten(), (3, 5, 3))
    assert "(3, 5, 3) are images with channels first or last is not known; leave layout out" in said(
        np.zeros((1, 45)), unclear, layout="hwc"
    )
    assert kd.samples(np.zeros((1, 45)), unclear)[0].x.shape == (3, 5, 3)


# Runs -----------------------------------------------------------------------------------------------------------------


def test_a_run_takes_named_labels_from_a_table(tmp_path: Path) -> None:
    network = kd.from_torch(nn.Linear(3, 3, dtype=torch.float64), (3,))
    write(tmp_path, kd.to_onnx(network), "net.onnx")
    x = torch.rand(3, 3, dtype=torch.float64)
    names = [NAMES[int(c)] for c in network(x).argmax(1)]
    lines = [";".join([name, *map(repr, row.tolist())]) for name, row in zip(names, x, strict=True)]
    write(tmp_path, "\n".join(["kind;a;b;c", *lines]))
    write(
        tmp_path,
        "network: net.onnx\ndata: {csv: a.csv, header: true, label: kind, classes: [setosa, versicolor, virginica]}\n"
        "region: {epsilon: 1.0e-6}\nmethods: [interval]\nworkers: 1\n",
        "run.yaml",
    )
    file = Certify.load(tmp_path / "run.yaml")
    study = Certify.prepare(file)
    rows = [study.compute(task, None).row for task in study.tasks()]
    assert [(row.name, row.verdict.value) for row in rows] == [(name, "verified") for name in names]
    write(tmp_path, file.resolved(tmp_path, {}), "stored.yaml")
    assert [sample.name for sample in Certify.prepare(Certify.load(tmp_path / "stored.yaml")).samples] == names
