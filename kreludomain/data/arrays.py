"""Arrays as rows: files of NumPy's and of torch's, and the arrays, data frames and data sets of a Python session."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kreludomain.data.keys import NamedArrayKeys
from kreludomain.data.rows import Rows, chosen
from kreludomain.errors import InputError
from kreludomain.packed import read_packed

#: The usual names of arrays of inputs and of what belongs to them.
PAIRS = (
    *(("x", "y"), ("X", "y"), ("X", "Y"), ("inputs", "labels"), ("inputs", "targets"), ("images", "labels")),
    *(("data", "labels"), ("data", "targets"), ("data", "target"), ("features", "labels"), ("features", "target")),
    *(("x_test", "y_test"), ("X_test", "y_test"), ("test_images", "test_labels"), ("test_x", "test_y")),
    *(("x_train", "y_train"), ("X_train", "y_train"), ("train_images", "train_labels"), ("train_x", "train_y")),
    ("arr_0", "arr_1"),
)


def read_array(path: Path) -> Tensor:
    """An array of numbers from a ``.npy`` file."""
    array = _npy(path)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{path}: not a .npy file of numbers")
    return torch.from_numpy(array.astype(np.float64))


def read_column(path: Path) -> np.ndarray:
    """Numbers or names from a ``.npy`` file, or from a text file with one in a line."""
    if path.name.removesuffix(".gz").endswith(".npy"):
        return _npy(path)
    from kreludomain.data.csv_file import csv_rows

    rows = [(line, [cell.strip() for cell in cells]) for line, cells in csv_rows(path)]
    for line, cells in rows:
        if len(cells) != 1:
            raise InputError(f"{path}: line {line}: {len(cells)} cells, one is expected")
    return np.array([cells[0] for _, cells in rows])


def _npy(path: Path) -> np.ndarray:
    content = read_packed(path)
    if content.startswith(b"PK"):
        raise InputError(f"{path}: not a .npy file but one with several arrays: {{npz: FILE}}")
    if not content.startswith(b"\x93NUMPY"):
        raise InputError(f"{path}: not a .npy file")
    try:
        return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))
    except (ValueError, EOFError) as error:
        why = "an array of Python objects, not of numbers or text (astype(str))" if _pickled(error) else error
        raise InputError(f"{path}: {why}") from None


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a ``.npz`` file by their names, without those of Python objects, which are code to run."""
    content, found = read_packed(path), dict[str, np.ndarray]()
    if not content.startswith(b"PK"):
        npy = content.startswith(b"\x93NUMPY")
        raise InputError(f"{path}: not a .npz file{' but a .npy file: {npy: FILE}' if npy else ''}")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            for name in file.files:
                try:
                    found[name] = np.asarray(file[name])
                except ValueError as error:
                    if not _pickled(error):
                        raise
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a .npz file that can be read ({error})") from None
    return found


def _pickled(error: Exception) -> bool:
    """Whether an array is of Python objects; to read them would run code that is in the file."""
    return "allow_pickle" in str(error)


def read_torch(path: Path) -> Any:
    """What a file of torch's holds, without running code that is in it."""
    content = io.BytesIO(read_packed(path))
    try:
        return torch.load(content, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(f"{path}: has other things than tensors, which are not read; save tensors") from None
    except (RuntimeError, EOFError, ValueError, KeyError):
        raise InputError(f"{path}: not a file of torch's") from None


def as_array(value: Any, source: str) -> np.ndarray:
    """An array of NumPy's, of what can be one: tensors on any device, data frames, lists, images."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return np.asarray((value.double() if value.is_floating_point() else value).numpy())
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{source}: not an array ({error})") from None


@dataclass(frozen=True, eq=False)
class Arrays:
    """Arrays with a row a sample: ``inputs`` ``(n, ...)``, and ``(n,)`` of what is known about them."""

    inputs: np.ndarray
    labels: np.ndarray | None = None
    targets: np.ndarray | None = None
    epsilon: np.ndarray | None = None

    def rows(self, source: str, first: int, count: int | None, offset: int = 0) -> Rows:
        """The chosen rows; ``offset`` is the position of the arrays' first row in the data.

        Raises :class:`InputError` for arrays of different lengths, and for inputs, targets and distances that are no
        numbers.
        """
        inputs = _of_numbers(self.inputs, "inputs", source)
        if inputs.ndim < 2:
            raise InputError(f"{source}: inputs of shape {inputs.shape}; a row a sample is expected, (samples, ...)")
        labels = None if self.labels is None else _one_a_row(self.labels, "labels", source)
        targets, epsilon = (
            None if values is None else _one_a_row(_of_numbers(values, name, source), name, source)
            for name, values in (("targets", self.targets), ("epsilon", self.epsilon))
        )
        for name, values in (("labels", labels), ("targets", targets), ("epsilon", epsilon)):
            if values is not None and len(values) != len(inputs):
                raise InputError(f"{source}: {len(inputs)} inputs, but {len(values)} {name}")
        there = chosen(source, offset + len(inputs), first, count)
        part = slice(there.start - offset, there.stop - offset)
        return Rows(
            source=source,
            first=first,
            places=[f"row {row}" for row in range(there.start, there.stop)],
            inputs=inputs[part].astype(np.float64),
            labels=None if labels is None else labels[part].tolist(),
            targets=None if targets is None else targets[part].astype(np.float64),
            epsilon=None if epsilon is None else epsilon[part].astype(np.float64),
            every_label=lambda: [] if labels is None else labels.tolist(),
        )


def with_answers(inputs: np.ndarray, answers: np.ndarray | None) -> Arrays:
    """Arrays of inputs and of what data sets have beside them.

    Text and integers are labels. Floating-point numbers are values to regress on, and labels too if all are whole.
    """
    if answers is None or answers.dtype.kind != "f" or _is_one_hot(answers):
        return Arrays(inputs, answers)
    return Arrays(inputs, answers if bool((np.mod(answers, 1) == 0).all()) else None, answers)


def named(source: str, arrays: Mapping[str, Any], keys: NamedArrayKeys) -> Arrays:
    """The arrays that ``keys`` name, or that have the usual names.

    Raises :class:`InputError` that lists the arrays for a name that is not there, and where it is not clear.
    """
    listed = ", ".join(map(str, arrays)) or "none"

    def get(key: str, name: str | None) -> np.ndarray | None:
        if name is None:
            return None
        if name not in arrays:
            raise InputError(f"{source}: {key}: there is no array '{name}'; there are {listed}")
        return as_array(arrays[name], f"{source}: {name}")

    usual = list(dict.fromkeys(name for name, _ in PAIRS if name in arrays)) or list(arrays)
    if keys.inputs is None and len(usual) != 1:
        raise InputError(f"{source}: which array has the inputs? inputs: NAME, labels: NAME; there are {listed}")
    name = keys.inputs or usual[0]
    inputs = get("inputs", name)
    if inputs is None:
        raise InputError(f"{source}: there are no arrays")
    if keys.labels is not None or keys.targets is not None:
        return Arrays(inputs, *(get(key, getattr(keys, key)) for key in ("labels", "targets", "epsilon")))
    partner = next((other for first, other in PAIRS if first == name and other in arrays), None)
    return replace(with_answers(inputs, get("labels", partner)), epsilon=get("epsilon", keys.epsilon))


def _of_numbers(values: np.ndarray, name: str, source: str) -> np.ndarray:
    if values.dtype.kind not in "biuf":
        raise InputError(f"{source}: {name}: an array of {values.dtype}, not of numbers")
    return values


def _is_one_hot(values: np.ndarray) -> bool:
    if values.ndim != 2 or values.shape[1] == 1:
        return False
    return bool(np.isin(values, (0, 1)).all() and (values.sum(1) == 1).all())


def _one_a_row(values: np.ndarray, name: str, source: str) -> np.ndarray:
    """Values ``(n,)`` of ``(n,)`` or ``(n, 1)``, or labels that are one-hot."""
    if values.ndim == 2 and values.shape[1] == 1:
        return values[:, 0]
    if name == "labels" and values.dtype.kind in "biuf" and _is_one_hot(values):
        return np.asarray(values.argmax(1))
    if values.ndim != 1:
        raise InputError(f"{source}: {name} of shape {values.shape}; one a row is expected")
    return values
