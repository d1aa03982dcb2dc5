"""Configuration files: what all commands share of them, and the keys of ``certify`` and ``compare``.

Paths in a file are relative to it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Protocol, TypeVar

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    SerializationInfo,
    Strict,
    field_validator,
    model_validator,
)

from kreludomain.errors import InputError
from kreludomain.run.options import MethodItem, NamedMethod
from kreludomain.run.schema import Keys, Model, check, wrong
from kreludomain.run.yaml_text import read_yaml


def _moved(path: str, info: SerializationInfo) -> str:
    return path if info.context is None else info.context(path)  # from ConfigFile.resolved


Text = Annotated[str, Field(min_length=1)]
#: A file's path, relative to the configuration's file.
FilePath = Annotated[Text, PlainSerializer(_moved)]
Numbers = Annotated[tuple[float, ...], Strict(False)]
Interval = Annotated[tuple[float, float], Strict(False)]
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
    clip: Interval | None = None

    @field_validator("clip")
    @classmethod
    def _not_empty(cls, clip: tuple[float, float] | None) -> tuple[float, float] | None:
        if clip is not None and clip[0] > clip[1]:
            raise wrong({(): f"[{clip[0]:g}, {clip[1]:g}] is empty"})
        return clip


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


class Config(Keys):
    """A configuration file of ``kreludomain certify`` and ``kreludomain compare``.

    ``claim``: robustness of each sample's label where it is not given. ``attack``: what is not proved is searched for
    counterexamples. ``tight``: bounds as good as the method can, also of what is proved already. ``timeout_s`` is for
    a sample and method; what has not stopped ``grace_s`` after it is killed. ``memory_mb``: what a sample may take on
    top of an idle worker. ``workers``, ``threads`` of each and ``cluster`` say where it is computed, and by default
    this machine decides.
    """

    network: FilePath
    data: Data
    region: RegionConfig
    claim: ClaimConfig | None = None
    methods: Annotated[tuple[MethodItem, ...], Strict(False)]
    timeout_s: float | None = Field(None, gt=0)
    grace_s: float = Field(10.0, ge=0)
    memory_mb: int | None = Field(None, ge=1)
    attack: bool = True
    tight: bool = False
    workers: int | None = Field(None, ge=1)
    threads: int | None = Field(None, ge=1)
    cluster: Literal["ray"] | None = None
    output: Text | None = None
    #: Written by a run for its readers; not read.
    versions: dict[str, str] = Field(default_factory=dict)

    @field_validator("methods")
    @classmethod
    def _told_apart(cls, methods: tuple[NamedMethod, ...]) -> tuple[NamedMethod, ...]:
        if not methods:
            raise wrong({(): "should have at least one item"})
        labels = [method.label for method in methods]
        for position, label in enumerate(labels):
            first = labels.index(label)
            if first != position:
                raise wrong({(position,): f"'{label}' is what methods[{first}] is called; give it another label"})
        return methods


class RunKeys(Protocol):
    """What every configuration has, whatever it is about."""

    @property
    def output(self) -> str | None: ...

    def model_dump(self, *, context: Any = ..., exclude_none: bool = ...) -> dict[str, Any]: ...


Config_co = TypeVar("Config_co", covariant=True)


@dataclass(frozen=True)
class ConfigFile(Generic[Config_co]):
    """A configuration and the file it is from."""

    source: Path
    config: Config_co

    def path(self, given: str) -> Path:
        """A path that the file gives, as seen from the working directory."""
        return self.source.parent / given

    def output(self: ConfigFile[RunKeys], given: Path | None) -> Path:
        """The run's folder: the one given on the command line, else the file's."""
        if given is not None:
            return given
        if self.config.output is None:
            raise InputError(f"{self.source}: output: missing; give it here or as --output")
        return self.path(self.config.output)

    def resolved(self: ConfigFile[RunKeys], folder: Path, versions: dict[str, str]) -> str:
        """The whole configuration, with every default, as a YAML file that says the same from within ``folder``."""

        def moved(given: str) -> str:
            if os.path.isabs(given):
                return given
            path = self.path(given)
            return os.path.relpath(path.parent.resolve() / path.name, folder.resolve())

        values = self.config.model_dump(context=moved, exclude_none=True)
        values |= {"output": ".", "versions": versions}
        return yaml.safe_dump(values, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120)


def load_config(path: Path, model: type[Model]) -> ConfigFile[Model]:
    """Reads a configuration with the keys of ``model``.

    Raises :class:`InputError`, one line that names the file and the key or line.
    """
    return ConfigFile(path, check(model, read_yaml(path), str(path)))
