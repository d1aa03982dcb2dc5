"""Samples: inputs with labels, from a CSV file or from scikit-learn's digits."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from kreludomain.data import Sample
from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.network.operators import Shape
from kreludomain.run.config.files import ConfigFile, CsvData, DigitsData, RunKeys

#: How many of scikit-learn's digits are for training; the rest are for tests.
DIGITS_TRAIN = 1437


Content = TypeVar("Content")


def load_samples(file: ConfigFile[RunKeys], data: CsvData | DigitsData, network: Network) -> list[Sample]:
    """The samples that ``data`` of a configuration names, as inputs of ``network``."""
    shape = network.input.shape
    return load_csv(file.path(data.csv), data, shape) if isinstance(data, CsvData) else load_digits(data, shape)


def load_csv(path: Path, data: CsvData, shape: Shape) -> list[Sample]:
    """Samples of a CSV file for a network that takes inputs of ``shape``.

    Blank lines are no rows. Raises :class:`InputError` that names the file and the line.
    """
    samples = []
    for index, line, cells in _chosen(csv_rows(path), data.first, data.count, str(path)):
        label, values = _numbers(cells, f"{path}: line {line}")
        if len(values) != math.prod(shape):
            raise InputError(
                f"{path}: line {line}: {len(values)} values after the label, the network takes {math.prod(shape)}"
            )
        samples.append(Sample(index, label, _arranged(torch.from_numpy(values / data.scale), data.layout, shape)))
    return samples


def load_digits(data: DigitsData, shape: Shape) -> list[Sample]:
    """Samples of scikit-learn's digits, values 0..16 divided by 16; index 0 is the first of the split."""
    from sklearn import datasets  # imports for a second, and only these runs need it

    if math.prod(shape) != 64:
        raise InputError(f"digits: 64 values, the network takes {math.prod(shape)}")
    images, labels = datasets.load_digits(return_X_y=True)
    parts = {"train": slice(0, DIGITS_TRAIN), "test": slice(DIGITS_TRAIN, None), "all": slice(None)}
    split = parts[data.split]
    rows = zip(itertools.count(1), zip(images[split], labels[split], strict=True), strict=False)
    return [
        Sample(index, int(label), torch.from_numpy(image / 16.0).reshape(shape))
        for index, _, (image, label) in _chosen(rows, data.first, data.count, f"digits, split {data.split}")
    ]


def _chosen(
    rows: Iterable[tuple[int, Content]], first: int, count: int | None, source: str
) -> Iterator[tuple[int, int, Content]]:
    """Rows ``first`` to ``first + count - 1`` (``None``: to the last) with their positions."""
    there, last = 0, math.inf if count is None else first + count
    for line, content in rows:
        if first <= there < last:
            yield there, line, content
        there += 1
        if there == last:
            return
    wanted = f"row {first}" if count is None else f"rows {first} to {first + count - 1}"
    if count is not None or there <= first:
        raise InputError(f"{source}: there are {there} rows (from 0), {wanted} do not exist")


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file that are not blank, with their line numbers. Errors name the file and the line."""
    if not path.exists():
        raise InputError(f"{path}: no such file")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, cells
        except UnicodeDecodeError:
            raise InputError(f"{path}: not a text file") from None
        except csv.Error as error:
            raise InputError(f"{path}: line {reader.line_num}: {error}") from None


def _numbers(cells: Sequence[str], where: str) -> tuple[int, np.ndarray]:
    """Label and values of a row."""
    try:
        numbers = np.array(cells, dtype=np.float64)
    except ValueError:
        numbers = np.array([_number(cell) for cell in cells])
    if not np.isfinite(numbers).all():
        position = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise InputError(f"{where}: '{cells[position].strip()}' in column {position + 1} is not a finite number")
    if not float(numbers[0]).is_integer():
        raise InputError(f"{where}: the label '{cells[0].strip()}' is not a whole number")
    return int(numbers[0]), numbers[1:]


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _arranged(values: Tensor, layout: str, shape: Shape) -> Tensor:
    """Flat values in a file's layout as an input of ``shape``. A flat input takes them in the order of the file."""
    if layout == "hwc" and len(shape) == 3:
        channels, height, width = shape
        return values.reshape(height, width, channels).permute(2, 0, 1).contiguous()
    return values.reshape(shape)


def read_array(path: Path) -> Tensor:
    """An array of numbers from a ``.npy`` file."""
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError):
        array = None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise InputError(f"{path}: not a .npy file of numbers")
    return torch.from_numpy(array.astype(np.float64))
