"""A configuration and the file it is from. Paths in a file are relative to it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import yaml

from kreludomain.errors import InputError
from kreludomain.run.config.schema import Model, check
from kreludomain.run.config.yaml_text import read_yaml


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
