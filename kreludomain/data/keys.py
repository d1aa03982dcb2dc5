"""The keys of data, the same in YAML and in Python: those that all data has, and those of each kind of source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Strict, model_validator

from kreludomain.data.layout import DataLayout
from kreludomain.data.values import NormaliseKeys
from kreludomain.options import FilePath, Keys, Text, wrong

#: A column of a table by its name in the header or by its position: from 0 on, or from the last one, which is -1.
Column = int | Text
Columns = Annotated[tuple[Column, ...], Strict(False)]


class DataKeys(Keys):
    """The keys that all data has.

    ``classes``: the labels in the order of the network's outputs, where labels are names or do not count from 0.
    Values are divided by ``scale``. ``layout``: how images lie in the data (``hwc``: height, width, channels; ``chw``),
    or that rows are no images (``flat``); as the network takes them if not given. ``normalise``: what the network's
    inputs have been put through, after ``scale``. ``first`` and ``count``: which rows.
    """

    classes: Annotated[tuple[int | Text, ...], Strict(False), Field(min_length=1)] | None = None
    scale: float = Field(1.0, gt=0)
    layout: DataLayout | None = None
    normalise: NormaliseKeys | None = None
    first: int = Field(0, ge=0)
    count: int | None = Field(None, ge=1)

    @classmethod
    def key_order(cls) -> tuple[str, ...]:
        """The keys of the source first."""
        names = (name for kind in cls.__mro__ for name in vars(kind).get("__annotations__", ()))
        return tuple(dict.fromkeys(name for name in names if name in cls.model_fields))

    @property
    def source(self) -> str:
        """What the data is called: the name of its file."""
        return Path(str(getattr(self, self.key_order()[0]))).name


class TableKeys(DataKeys):
    """The keys of tables: what their columns are; those that have no other use are the values, in their order.

    ``label``: the first column if neither it nor a ``target`` is given; ``none`` where rows have no label. ``target``:
    the value to regress on. ``index`` numbers or names the rows. ``epsilon``: the distance of each row's region.
    ``columns``: those with the values, where these are not all the others. ``drop``: those that are left out.
    """

    label: Annotated[Column | None, BeforeValidator(lambda v: "none" if v is None else v)] = None
    target: Column | None = None
    index: Column | None = None
    epsilon: Column | None = None
    columns: Columns | None = None
    drop: Columns = ()

    @model_validator(mode="after")
    def _one_list(self) -> TableKeys:
        if self.columns is not None and self.drop:
            raise wrong({("drop",): "give columns or drop, not both"})
        return self


#: Separators that are hard to write, by their names.
_SEPARATORS = {"tab": "\t", "\\t": "\t", "space": " "}
Separator = Annotated[
    str,
    BeforeValidator(lambda v: _SEPARATORS.get(v, v) if isinstance(v, str) else v),
    Field(min_length=1, max_length=1),
]


class CsvKeys(TableKeys):
    """A text file with a row a line.

    ``header``: the first line names the columns. ``delimiter``: what separates the columns (one character, ``tab`` or
    ``space``); found by looking if it is not given.
    """

    csv: FilePath
    header: bool | None = None
    delimiter: Separator | None = None


class FileArrayKeys(DataKeys):
    """The keys of an array of inputs with its labels, targets and distances in files of their own."""

    labels: FilePath | None = None
    targets: FilePath | None = None
    epsilon: FilePath | None = None


class NpyKeys(FileArrayKeys):
    """A file of NumPy's with an array of inputs, a row a sample."""

    npy: FilePath


class NamedArrayKeys(DataKeys):
    """The keys of arrays with names. Without them the arrays are found by the names that are usual."""

    inputs: Text | None = None
    labels: Text | None = None
    targets: Text | None = None
    epsilon: Text | None = None


class NpzKeys(NamedArrayKeys):
    """A file of NumPy's with several arrays."""

    npz: FilePath


class PtKeys(NamedArrayKeys):
    """A file of torch's with a tensor of inputs, a pair of inputs and labels, or tensors by their names."""

    pt: FilePath


class DigitsKeys(DataKeys):
    """The handwritten digits that ship with scikit-learn: the first 1,437 images are ``train``, the others ``test``."""

    name: Literal["digits"]
    split: Literal["train", "test", "all"] = "test"

    @property
    def source(self) -> str:
        return f"{self.name}, {self.split}"


class GivenArrayKeys(DataKeys):
    """The keys of an array of inputs in a Python session; its labels, targets and distances are arrays too."""

    labels: Any = None
    targets: Any = None
    epsilon: Any = None
