"""What data comes from in a configuration: kinds of files by their keys, and scikit-learn's digits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor

from kreludomain.data.arrays import Arrays, named, read_array, read_column, read_npz, read_torch
from kreludomain.data.csv_file import read_csv
from kreludomain.data.inputs import as_samples
from kreludomain.data.keys import CsvKeys, DataKeys, DigitsKeys, NpyKeys, NpzKeys, PtKeys
from kreludomain.data.rows import Rows
from kreludomain.data.sample import Sample
from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.options import check, wrong

#: How many of scikit-learn's digits are for training; the rest are for tests.
DIGITS_TRAIN = 1437

AnyDataKeys = TypeVar("AnyDataKeys", bound=DataKeys)
#: Tables that pandas can read, and this cannot.
_TABLES = (".xlsx", ".xls", ".ods", ".parquet", ".feather", ".json", ".pkl", ".h5")
#: Where a file is that a key names.
Located = Callable[[str], Path]


@dataclass(frozen=True)
class Source(Generic[AnyDataKeys]):
    """A kind of data: its keys, and the function that reads its rows; ``endings``: how such files are called."""

    keys: type[AnyDataKeys]
    read: Callable[[AnyDataKeys, Located, int], Rows]
    endings: tuple[str, ...] = ()


def _csv(keys: CsvKeys, located: Located, size: int) -> Rows:
    ending = _ending(keys.csv)
    if ending in _TABLES:
        raise InputError(f"{keys.csv}: {ending} files are not read; save a CSV file, or give a data frame in Python")
    return read_csv(located(keys.csv), keys, size)


def _npy(keys: NpyKeys, located: Located, size: int) -> Rows:
    given = ((key, getattr(keys, key)) for key in ("labels", "targets", "epsilon"))
    beside = {key: read_column(located(file)) for key, file in given if file is not None}
    path = located(keys.npy)
    return Arrays(read_array(path).numpy(), **beside).rows(str(path), keys.first, keys.count)


def _npz(keys: NpzKeys, located: Located, size: int) -> Rows:
    path = located(keys.npz)
    return named(str(path), read_npz(path), keys).rows(str(path), keys.first, keys.count)


def _pt(keys: PtKeys, located: Located, size: int) -> Rows:
    path = located(keys.pt)
    source, found = str(path), read_torch(path)
    if isinstance(found, Tensor):
        if keys.labels is not None or keys.targets is not None:
            raise InputError(f"{source}: has one tensor and no labels; save a pair of tensors, (inputs, labels)")
        found = {"inputs": found}
    elif isinstance(found, list | tuple) and len(found) == 2:
        found = dict(zip(("inputs", "labels"), found, strict=True))
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(f"{source}: neither a tensor, a pair of tensors (inputs, labels), nor tensors by their names")
    return named(source, found, keys).rows(source, keys.first, keys.count)


def _digits(keys: DigitsKeys, located: Located, size: int) -> Rows:
    from sklearn import datasets  # imports for a second, and only these runs need it

    images, labels = datasets.load_digits(return_X_y=True)
    parts = {"train": slice(0, DIGITS_TRAIN), "test": slice(DIGITS_TRAIN, None), "all": slice(None)}
    split = parts[keys.split]
    return Arrays(images[split] / 16.0, labels[split]).rows(keys.source, keys.first, keys.count)


#: The kinds of data by the key that names the source.
SOURCES: dict[str, Source[Any]] = {
    "csv": Source(CsvKeys, _csv, (".csv", ".tsv", ".txt", ".data")),
    "npy": Source(NpyKeys, _npy, (".npy",)),
    "npz": Source(NpzKeys, _npz, (".npz",)),
    "pt": Source(PtKeys, _pt, (".pt", ".pth")),
    "name": Source(DigitsKeys, _digits),
}
_ENDINGS = {ending: key for key, source in SOURCES.items() for ending in source.endings}
_FILES = ", ".join(f"{{{key}: FILE, ...}}" for key, source in SOURCES.items() if source.endings)


def data_keys(value: Any) -> DataKeys:
    """The keys of data as YAML has them. Raises pydantic's ``ValidationError``; its paths start at the mapping."""
    if isinstance(value, DataKeys):
        return value
    if isinstance(value, str):
        key = "name" if value == "digits" else _ENDINGS.get(_ending(value), "csv")
        raise wrong({(): f"give a mapping of keys: {{{key}: {value}}}"})
    found = [key for key in SOURCES if isinstance(value, Mapping) and key in value]
    if len(found) != 1:
        sources = f", not {' and '.join(found)}" if found else ""
        raise wrong({(): f"give one of {_FILES} or {{name: digits, ...}}{sources}"})
    keys: DataKeys = SOURCES[found[0]].keys.model_validate(value)
    return keys


def file_keys(source: str | Path, keys: Mapping[str, Any]) -> DataKeys:
    """The keys of a file's data by the file's name (``digits``: scikit-learn's), with further ``keys``.

    Raises :class:`InputError` that names the file and the key.
    """
    key = "name" if str(source) == "digits" else _ENDINGS.get(_ending(str(source)), "csv")
    found: DataKeys = check(SOURCES[key].keys, {key: str(source), **keys}, str(source))
    return found


def read_samples(keys: DataKeys, network: Network, located: Located = Path) -> tuple[Sample, ...]:
    """The samples that keys name, as inputs of a network; ``located`` says where the files are."""
    source = next(source for source in SOURCES.values() if source.keys is type(keys))
    return as_samples(source.read(keys, located, network.size(network.input.name)), keys, network, located)


def _ending(path: str) -> str:
    return Path(path.removesuffix(".gz")).suffix.lower()
