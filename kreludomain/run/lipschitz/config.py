"""The configuration of ``kreludomain lipschitz``: the YAML file's keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Strict, model_validator

from kreludomain.analysis.lipschitz import ALIASES, INITIALISATIONS, Architecture, Conv, Dense
from kreludomain.errors import InputError
from kreludomain.options import Keys, Text, wrong
from kreludomain.run.config.files import Data, RunKeys, require_distinct
from kreludomain.run.config.methods import AnyMethods, MethodItem, parse_method
from kreludomain.run.config.networks import NetworkFile, NetworkItem
from kreludomain.run.config.region import RegionConfig

Count = Annotated[int, Field(ge=1)]


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


class NetworkKeys(NetworkFile):
    """A network file. ``initialisation``: the one of its architecture's estimate (left out: no estimate).

    ``axes``: its values along the axes of a study, such as ``width: 32``; the plot has a column for each axis.
    """

    label: Text | None = None
    initialisation: Initial | None = None
    axes: dict[Text, int | float | Text] = Field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.label or super().name


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
    methods: AnyMethods = ()
    attack: bool = True


class LipschitzConfig(RunKeys):
    """A configuration file. There are networks, with data and a region, or architectures, or both.

    ``bounds``: the method that bounds pre-activations for local constants. ``samples``: points drawn for a lower bound.
    ``timeout_s``: for a network's constants besides LipSDP; for the bounds around a sample, each method's radius, and
    the attack.
    """

    network: NetworkItem | None = None
    networks: Annotated[tuple[NetworkKeys, ...], Strict(False)] = ()
    architectures: Annotated[tuple[ArchitectureKeys, ...], Strict(False)] = ()
    data: Data | None = None
    region: RegionConfig | None = None
    bounds: MethodItem = Field(default_factory=lambda: parse_method("deeppoly"))
    lipsdp: Annotated[LipSdpKeys | Literal[False], BeforeValidator(_lipsdp)] = LipSdpKeys()
    samples: Count = 200
    seed: int = Field(0, ge=0)
    radius: RadiusKeys | None = None

    @model_validator(mode="after")
    def _whole(self) -> LipschitzConfig:
        if self.network is not None and self.networks:
            raise wrong({("networks",): "give network or networks, not both"})
        if not (self.all_networks or self.architectures):
            raise wrong({("network",): "missing; give network, networks or architectures"})
        missing = [key for key in ("data", "region") if self.all_networks and getattr(self, key) is None]
        if missing:
            raise wrong({(key,): "missing; networks are measured around samples" for key in missing})
        if self.region is not None:
            self.region.require_one("this command")
        require_distinct([keys.name for keys in self.all_networks], "networks")
        require_distinct([keys.name for keys in self.architectures], "architectures")
        return self

    @property
    def all_networks(self) -> tuple[NetworkKeys, ...]:
        given = self.network
        return self.networks if given is None else (NetworkKeys(file=given.file, output=given.output),)
