"""Configurations: their checks, the keys that several commands have, and the file that one is from.

Paths in a file are relative to it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializeAsAny,
    Strict,
)

from kreludomain.data.keys import DataKeys
from kreludomain.data.sources import data_keys
from kreludomain.errors import InputError
from kreludomain.options import Keys, Text, check, wrong
from kreludomain.property import norm_name
from kreludomain.run.config.yaml_text import read_yaml


def require_distinct(names: Sequence[str], *path: str | int) -> None:
    """Raises a validation error for items of a list, at ``path``, that tables could not tell apart."""
    for position, name in enumerate(names):
        first = names.index(name)
        if first != position:
            raise wrong({(*path, position): f"'{name}' is the label of item {first} too; give it another label"})


def _not_empty(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] > interval[1]:
        raise wrong({(): f"[{interval[0]:g}, {interval[1]:g}] is empty"})
    return interval


def _norm(value: Any) -> str:
    try:
        return norm_name(value)
    except InputError:
        return str(value)  # which is then said not to be one of the names


Numbers = Annotated[tuple[float, ...], Strict(False)]
Interval = Annotated[tuple[float, float], Strict(False)]
#: The values that an input's entries can have.
Clip = Annotated[Interval, AfterValidator(_not_empty)]
Norm = Annotated[Literal["inf", "1", "2"], BeforeValidator(_norm)]


#: The keys of data, by the source that one of them names.
Data = Annotated[SerializeAsAny[DataKeys], BeforeValidator(data_keys)]


class RunKeys(Keys):
    """The keys that every study has.

    ``timeout_s`` is for a row; a process that has not stopped ``grace_s`` later is killed. ``memory_mb``: MiB that a
    row may take on top of an idle worker. ``workers``, ``threads`` of each and ``cluster`` say where it is computed;
    by default this machine decides. ``versions`` is written by a run for its readers, and not read.
    """

    timeout_s: float | None = Field(None, gt=0)
    grace_s: float = Field(10.0, ge=0)
    memory_mb: int | None = Field(None, ge=1)
    workers: int | None = Field(None, ge=1)
    threads: int | None = Field(None, ge=1)
    cluster: Literal["ray"] | None = None
    output: Text | None = None
    versions: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def key_order(cls) -> tuple[str, ...]:
        """A study's own keys, then those of all studies."""
        return tuple(sorted(cls.model_fields, key=lambda key: key in RunKeys.model_fields))


#: Keys that decide no row: where the results are, and where they are computed.
UNDECIDING = frozenset({"output", "versions", "workers", "threads", "cluster"})

Config_co = TypeVar("Config_co", bound=RunKeys, covariant=True)
AnyKeys = TypeVar("AnyKeys", bound=RunKeys)


@dataclass(frozen=True)
class ConfigFile(Generic[Config_co]):
    """A configuration and the file it is from. ``base``: the folder its paths are relative to, if not the file's."""

    source: Path
    config: Config_co
    base: Path | None = None

    def path(self, given: str) -> Path:
        """A path that the file gives, as seen from the working directory."""
        return (self.source.parent if self.base is None else self.base) / given

    @contextmanager
    def named(self, *where: str) -> Iterator[None]:
        """Puts the file's name, and the key that ``where`` names, in front of an :class:`InputError` raised within."""
        try:
            yield
        except InputError as error:
            raise InputError(": ".join((str(self.source), *where, str(error)))) from None

    def output(self, given: Path | None) -> Path:
        """The run's folder: the one given on the command line, else the file's."""
        if given is not None:
            return given
        if self.config.output is None:
            raise InputError(f"{self.source}: output: missing; give it here or as --output")
        return self.path(self.config.output)

    def resolved(self, folder: Path, versions: dict[str, str]) -> str:
        """The whole configuration, with every default, as a YAML file that says the same from within ``folder``."""

        def moved(given: str) -> str:
            if os.path.isabs(given):
                return given
            path = self.path(given)
            return os.path.relpath(path.parent.resolve() / path.name, folder.resolve())

        values = self.config.model_dump(context=moved, exclude_none=True) | {"output": ".", "versions": versions}
        ordered = {key: values[key] for key in self.config.key_order() if key in values}
        return yaml.safe_dump(ordered, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120)

    def deciding(self) -> dict[str, Any]:
        """The keys that decide rows, as JSON has them; of files it does not matter where they are."""
        values = self.config.model_dump(mode="json", context=lambda path: "", exclude=set(UNDECIDING))
        return {key: values[key] for key in self.config.key_order() if key in values}


def load_config(path: Path, model: type[AnyKeys]) -> ConfigFile[AnyKeys]:
    """Reads a configuration with the keys of ``model``.

    Raises :class:`InputError`, one line that names the file and the key or line.
    """
    return ConfigFile(path, check(model, read_yaml(path), str(path)))
