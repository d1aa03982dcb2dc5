"""Checks of configurations, and keys that several commands have: files, data, regions, claims."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PlainSerializer,
    SerializationInfo,
    Strict,
    ValidationError,
    model_validator,
)
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.options import Keys, explain, wrong
from kreludomain.property import Region, ball

Model = TypeVar("Model", bound=BaseModel)


def check(model: type[Model], value: Any, source: str) -> Model:
    """``value`` as a model. Raises :class:`InputError`: one line that names ``source``, the key and the mistake."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InputError(f"{source}: {explain(error)}") from None


def require_distinct(names: Sequence[str], *path: str | int) -> None:
    """Raises a validation error for items of a list, at ``path``, that tables could not tell apart."""
    for position, name in enumerate(names):
        first = names.index(name)
        if first != position:
            raise wrong({(*path, position): f"'{name}' is the label of item {first} too; give it another label"})


def _moved(path: str, info: SerializationInfo) -> str:
    return path if info.context is None else info.context(path)  # from ConfigFile.resolved


def _not_empty(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] > interval[1]:
        raise wrong({(): f"[{interval[0]:g}, {interval[1]:g}] is empty"})
    return interval


Text = Annotated[str, Field(min_length=1)]
#: A file's path, relative to the configuration's file.
FilePath = Annotated[Text, PlainSerializer(_moved)]
Numbers = Annotated[tuple[float, ...], Strict(False)]
Interval = Annotated[tuple[float, float], Strict(False)]
#: The values that an input's entries can have.
Clip = Annotated[Interval, AfterValidator(_not_empty)]
Norm = Annotated[Literal["inf", "1", "2"], BeforeValidator(lambda v: {"1.0": "1", "2.0": "2"}.get(str(v), str(v)))]


class CsvData(Keys):
    """A CSV file with a row a sample: label, values. Values are divided by ``scale``."""

    csv: FilePath
    scale: float = Field(1.0, gt=0)
    layout: Literal["hwc", "chw"] = "chw"
    first: int = Field(0, ge=0)
    count: int | None = Field(None, ge=1)


class DigitsData(Keys):
    """The handwritten digits that ship with scikit-learn: the first 1,437 images are ``train``, the others ``test``."""

    name: Literal["digits"]
    split: Literal["train", "test", "all"] = "test"
    first: int = Field(0, ge=0)
    count: int | None = Field(None, ge=1)


def _data(value: Any) -> CsvData | DigitsData:
    if not isinstance(value, dict) or not {"csv", "name"} & value.keys():
        raise wrong({(): "give {csv: FILE, ...} or {name: digits, ...}"})
    return (CsvData if "csv" in value else DigitsData).model_validate(value)


Data = Annotated[CsvData | DigitsData, BeforeValidator(_data)]


class RegionConfig(Keys):
    """All inputs within ``epsilon`` of a sample, each entry within ``clip``."""

    norm: Norm = "inf"
    epsilon: float = Field(ge=0)
    clip: Clip | None = None

    def around(self, x: Tensor) -> Region:
        """The region around an input."""
        return ball(x, self.epsilon, self.norm, self.clip)


class ClaimConfig(Keys):
    """The claim ``C f(x) + d > 0`` for every sample, whatever its label."""

    C: Annotated[tuple[Numbers, ...], Strict(False)]
    d: Numbers | None = None

    @model_validator(mode="after")
    def _rectangular(self) -> ClaimConfig:
        if not self.C:
            raise wrong({("C",): "should have at least one row"})
        widths = {len(row) for row in self.C}
        if len(widths) > 1:
            raise wrong({("C",): f"rows of different lengths ({', '.join(map(str, sorted(widths)))})"})
        if self.d is not None and len(self.d) != len(self.C):
            raise wrong({("d",): f"should have {len(self.C)} numbers, one a row of C, not {len(self.d)}"})
        return self
