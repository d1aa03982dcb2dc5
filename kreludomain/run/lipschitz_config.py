"""The configuration of ``kreludomain lipschitz``: the YAML file's keys, their types and defaults."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, PlainValidator, Strict, field_validator, model_validator

from kreludomain.analysis.lipschitz import ALIASES, INITIALISATIONS, Architecture, Conv, Dense
from kreludomain.errors import InputError
from kreludomain.run.config import CsvData, DigitsData, RegionConfig, Text, _data
from kreludomain.run.options import NamedMethod, parse_method
from kreludomain.run.schema import Keys, check, wrong
from kreludomain.run.yaml_text import read_yaml

Count = Annotated[int, Field(ge=1)]
Method = Annotated[NamedMethod, PlainValidator(parse_method)]


def _initialisation(value: Any) -> Any:
    name = ALIASES.get(value, value) if isinstance(value, str) else value
    if name not in INITIALISATIONS:
        raise wrong({(): f"{value!r} is not one of {', '.join([*INITIALISATIONS, *ALIASES])}"})
    return name


Initial = Annotated[str, BeforeValidator(_initialisation)]


class ConvKeys(Keys):
    """A convolutional layer of ``conv`` channels."""

    conv: Count
    kernel: Count
    stride: Count = 1
    padding: int = Field(0, ge=0)

    def layer(self) -> Conv:
        return Conv(self.conv, self.kernel, self.stride, self.padding)


class DenseKeys(Keys):
    """A dense layer of ``dense`` neurons; the number alone says the same."""

    dense: Count

    def layer(self) -> Dense:
        return Dense(self.dense)


def _layer(value: Any) -> ConvKeys | DenseKeys:
    if isinstance(value, int) and not isinstance(value, bool):
        return DenseKeys.model_validate({"dense": value})
    if not isinstance(value, dict) or len({"conv", "dense"} & value.keys()) != 1:
        raise wrong({(): "give a number of neurons, {dense: N} or {conv: CHANNELS, kernel: K, ...}"})
    return (ConvKeys if "conv" in value else DenseKeys).model_validate(value)


class ArchitectureKeys(Keys):
    """Layers with a ReLU after each but the last; the last is the output.

    ``draws``: how many random networks the estimate is compared with (0: none).
    """

    label: Text | None = None
    input: Annotated[tuple[Count, ...], Strict(False)]
    layers: Annotated[tuple[Annotated[ConvKeys | DenseKeys, BeforeValidator(_layer)], ...], Strict(False)]
    initialisations: Annotated[tuple[Initial, ...], Strict(False)] = tuple(INITIALISATIONS)
    draws: int = Field(3, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> ArchitectureKeys:
        try:
            self.architecture()
        except InputError as error:
            raise wrong({("layers",): str(error).removeprefix("architecture: ")}) from None
        return self

    def architecture(self) -> Architecture:
        return Architecture(self.input, tuple(layer.layer() for layer in self.layers))

    @property
    def name(self) -> str:
        if self.label is not None:
            return self.label
        sizes = [f"c{layer.conv}" if isinstance(layer, ConvKeys) else str(layer.dense) for layer in self.layers]
        return "-".join(["x".join(map(str, self.input)), *sizes])


class NetworkKeys(Keys):
    """A network. ``initialisation``: what its architecture's estimate supposes (left out: no estimate).

    ``axes``: where it stands in a study, a value by the name of each axis; the plot has a column for each axis.
    """

    file: Text
    label: Text | None = None
    initialisation: Initial | None = None
    axes: dict[Text, int | float | Text] = Field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.label or Path(self.file).stem


class LipSdpKeys(Keys):
    """The semidefinite program, for l_2 only: networks of more hidden ``neurons`` go without it."""

    solver: Literal["scs", "clarabel"] = "scs"
    neurons: Count = 400
    timeout_s: Annotated[float, Field(gt=0)] = 120.0


def _lipsdp(value: Any) -> Any:
    return value if value is False else LipSdpKeys.model_validate(value)


class RadiusKeys(Keys):
    """Robust radii, searched up to ``largest``, to the relative ``tolerance``; each of ``methods`` certifies one."""

    largest: float = Field(gt=0)
    tolerance: float = Field(0.02, gt=0, lt=1)
    methods: Annotated[tuple[Method, ...], Strict(False)] = ()
    attack: bool = True

    @field_validator("methods")
    @classmethod
    def _told_apart(cls, methods: tuple[NamedMethod, ...]) -> tuple[NamedMethod, ...]:
        labels = [method.label for method in methods]
        for position, label in enumerate(labels):
            if labels.index(label) != position:
                raise wrong({(position,): f"'{label}' is there twice; give it another label"})
        return methods


class LipschitzConfig(Keys):
    """A configuration file. There are networks, with data and a region, or architectures, or both.

    ``bounds``: the method that bounds activations for local constants. ``samples``: points drawn for a lower bound.
    ``timeout_s``: for one sample and method.
    """

    network: Text | None = None
    networks: Annotated[tuple[NetworkKeys, ...], Strict(False)] = ()
    architectures: Annotated[tuple[ArchitectureKeys, ...], Strict(False)] = ()
    data: Annotated[CsvData | DigitsData, BeforeValidator(_data)] | None = None
    region: RegionConfig | None = None
    bounds: Method = Field(default_factory=lambda: parse_method("deeppoly"))
    lipsdp: Annotated[LipSdpKeys | Literal[False], BeforeValidator(_lipsdp)] = LipSdpKeys()
    samples: Count = 200
    seed: int = Field(0, ge=0)
    radius: RadiusKeys | None = None
    timeout_s: float | None = Field(None, gt=0)
    output: Text | None = None
    #: Written by a run for its readers; not read.
    versions: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _whole(self) -> LipschitzConfig:
        if self.network is not None and self.networks:
            raise wrong({("networks",): "give network or networks, not both"})
        if not (self.all_networks or self.architectures):
            raise wrong({("network",): "missing; give network, networks or architectures"})
        if self.all_networks:
            missing = [key for key in ("data", "region") if getattr(self, key) is None]
            if missing:
                raise wrong({(key,): "missing; networks are measured around samples" for key in missing})
        for key, items in (("networks", self.all_networks), ("architectures", self.architectures)):
            names = [item.name for item in items]
            for position, name in enumerate(names):
                if names.index(name) != position:
                    raise wrong({(key, position): f"'{name}' is there twice; give it another label"})
        return self

    @property
    def all_networks(self) -> tuple[NetworkKeys, ...]:
        return self.networks if self.network is None else (NetworkKeys(file=self.network),)


@dataclass(frozen=True)
class LipschitzFile:
    """A configuration and the file it is from."""

    source: Path
    config: LipschitzConfig

    def path(self, given: str) -> Path:
        """A path that the file gives, as seen from the working directory."""
        return self.source.parent / given

    def output(self, given: Path | None) -> Path:
        """The run's folder: the one given on the command line, else the file's."""
        if given is not None:
            return given
        if self.config.output is None:
            raise InputError(f"{self.source}: output: missing; give it here or as --output")
        return self.path(self.config.output)

    def resolved(self, folder: Path, versions: dict[str, str]) -> str:
        """The whole configuration, with every default, as a YAML file that says the same from within ``folder``."""
        config = self.config
        values = config.model_dump(mode="json", exclude={"bounds": True, "radius": {"methods"}}, exclude_none=True)
        if config.network is not None:
            values["network"] = self._from(folder, config.network)
        for item, network in zip(values["networks"], config.networks, strict=True):
            item["file"] = self._from(folder, network.file)
        if isinstance(config.data, CsvData):
            values["data"]["csv"] = self._from(folder, config.data.csv)
        values["bounds"] = config.bounds.resolved()
        if config.radius is not None:
            values["radius"]["methods"] = [method.resolved() for method in config.radius.methods]
        values |= {"output": ".", "versions": versions}
        return yaml.safe_dump(values, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120)

    def _from(self, folder: Path, given: str) -> str:
        if os.path.isabs(given):
            return given
        path = self.path(given)
        return os.path.relpath(path.parent.resolve() / path.name, folder.resolve())


def load_lipschitz(path: Path) -> LipschitzFile:
    """Reads a configuration. Raises :class:`InputError`, one line that names the file and the key or line."""
    return LipschitzFile(path, check(LipschitzConfig, read_yaml(path), str(path)))
