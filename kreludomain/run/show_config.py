"""What ``kreludomain show`` reads: the keys of its two kinds of YAML file, ``plane`` and ``group``, and what they name.

Paths are relative to the file, as in every run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field, PlainValidator, Strict, field_validator, model_validator
from torch import Tensor

from kreludomain.analysis.reachable import RELAXATIONS, NeuronPair, Plane
from kreludomain.errors import InputError
from kreludomain.network import Network, load
from kreludomain.property import Region, ball, box
from kreludomain.run.config.data import load_samples
from kreludomain.run.config.fields import CsvData, Data, DigitsData, FilePath, Interval, Numbers, RegionConfig, Text
from kreludomain.run.config.files import ConfigFile, RunKeys
from kreludomain.run.config.methods import MethodItem, NamedMethod, parse_method
from kreludomain.run.config.schema import Keys, check, wrong
from kreludomain.run.config.yaml_text import read_yaml
from kreludomain.verify import abstract


class BoxConfig(Keys):
    """All inputs between two: a number an entry, in the input's flat order."""

    lower: Numbers
    upper: Numbers

    @model_validator(mode="after")
    def _same_length(self) -> BoxConfig:
        if len(self.lower) != len(self.upper):
            raise wrong({("upper",): f"should have {len(self.lower)} numbers as lower has, not {len(self.upper)}"})
        return self


def _region(value: Any) -> RegionConfig | BoxConfig:
    is_box = isinstance(value, Mapping) and bool({"lower", "upper"} & value.keys())
    return (BoxConfig if is_box else RegionConfig).model_validate(value)


class _Scene(Keys):
    """A network and a region: a box, or a ball around ``input`` (numbers in flat order) or the first row of
    ``data``."""

    network: FilePath
    input: Numbers | None = None
    data: Data | None = None
    region: Annotated[RegionConfig | BoxConfig, BeforeValidator(_region)]

    @model_validator(mode="after")
    def _one_source(self) -> _Scene:
        given = [key for key in ("input", "data") if getattr(self, key) is not None]
        if isinstance(self.region, BoxConfig) and given:
            raise wrong({(given[0],): "a box (region with lower and upper) needs none"})
        if isinstance(self.region, RegionConfig) and len(given) != 1:
            raise wrong({("region",): "the ball is around input or data; give one of them"})
        return self


def _direction(value: Any) -> int | dict[int, float] | list[float]:
    """An output by its position, weights by position, or a weight for every output."""
    numbers = value if isinstance(value, list) else [*value.values()] if isinstance(value, Mapping) else []
    positions = [value] if isinstance(value, int) else [*value] if isinstance(value, Mapping) else []
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in numbers) or not (numbers or positions):
        raise wrong({(): "give an output's position, weights by position {8: 1, 3: -1}, or a list of weights"})
    if any(isinstance(p, bool) or not isinstance(p, int) or p < 0 for p in positions):
        raise wrong({(): "positions are whole numbers from 0"})
    result: int | dict[int, float] | list[float] = value
    return result


Direction = Annotated[Any, PlainValidator(_direction)]


class PlaneConfig(Keys):
    """Two linear expressions in the values of a node (the output if not given), and what the axes are called."""

    x: Direction
    y: Direction
    node: Text | None = None
    labels: Annotated[tuple[str, str], Strict(False)] | None = None


class Side(Keys):
    """The half-plane ``x X + y Y <= at`` of the picture, what it means, and where sets had better not go."""

    x: float = 0.0
    y: float = 0.0
    at: float = 0.0
    label: Text

    @model_validator(mode="after")
    def _has_a_direction(self) -> Side:
        if self.x == 0 and self.y == 0:
            raise wrong({(): "x and y are both zero: there is no such half-plane"})
        return self


class PlaneShow(_Scene, RunKeys):
    """A picture of reachable sets.

    ``accuracy``: how far a corner of a polygon may stick out of the set, of its size. ``directions``: the most that a
    method is asked. ``samples``: random inputs of the sampled truth. ``timeout_s``: for one method.
    """

    plane: PlaneConfig
    unsafe: Annotated[tuple[Side, ...], Strict(False)] = ()
    methods: Annotated[tuple[MethodItem, ...], Strict(False)]
    accuracy: float = Field(1e-3, gt=0, lt=1)
    directions: int = Field(200, ge=16)
    samples: int = Field(5000, ge=2)
    seed: int = 0
    title: str | None = None

    @field_validator("methods")
    @classmethod
    def _told_apart(cls, methods: tuple[NamedMethod, ...]) -> tuple[NamedMethod, ...]:
        if not methods:
            raise wrong({(): "should have at least one item"})
        labels = [method.label for method in methods]
        for position, label in enumerate(labels):
            if labels.index(label) != position:
                raise wrong({(position,): f"'{label}' is there twice; give one another label"})
        return methods


class Numbered(Keys):
    """Two neurons by their bounds; ``sum`` and ``difference`` bound ``x1 + x2`` and ``x1 - x2``."""

    lower: Interval
    upper: Interval
    sum: Interval | None = None
    difference: Interval | None = None


class InNetwork(_Scene):
    """Two neurons of a network, by the node that a ReLU takes and their positions; ``method`` bounds them."""

    node: Text
    neurons: Annotated[tuple[int, int], Strict(False)]
    method: MethodItem = Field(default_factory=lambda: parse_method("deeppoly"))


def _group(value: Any) -> Numbered | InNetwork:
    by_name = isinstance(value, Mapping) and bool({"network", "node", "neurons"} & value.keys())
    return (InNetwork if by_name else Numbered).model_validate(value)


class GroupShow(RunKeys):
    """A picture of two neurons' relaxations: what each knows of ``weights . y``."""

    group: Annotated[Numbered | InNetwork, BeforeValidator(_group)]
    relaxations: Annotated[tuple[Literal[RELAXATIONS], ...], Strict(False)] = RELAXATIONS[1:]  # type: ignore[valid-type]
    weights: Interval = (1.0, 1.0)
    title: str | None = None

    @field_validator("relaxations")
    @classmethod
    def _some(cls, relaxations: tuple[str, ...]) -> tuple[str, ...]:
        if not relaxations or len(set(relaxations)) != len(relaxations):
            raise wrong({(): "should have at least one item, each once"})
        return relaxations

    @field_validator("weights")
    @classmethod
    def _not_zero(cls, weights: tuple[float, float]) -> tuple[float, float]:
        if 0 in weights:
            raise wrong({(): "should not be zero: one neuron alone has no joint relaxation to show"})
        return weights


@dataclass(frozen=True)
class ShowFile(ConfigFile[PlaneShow | GroupShow]):
    """A configuration, the file it is from, and what they name."""

    def scene(self, scene: _Scene) -> tuple[Network, Region]:
        """The network, and the region as a batch of one that fits it."""
        network = load(self.path(scene.network))
        try:
            return network, self._region(scene, network).fit(network)
        except InputError as error:
            raise InputError(f"{self.source}: {error}") from None

    def _region(self, scene: _Scene, network: Network) -> Region:
        shape, region = network.input.shape, scene.region
        if isinstance(region, BoxConfig):
            return box(*(_reshaped(v, shape, "region") for v in (region.lower, region.upper)))
        x = _reshaped(scene.input or (), shape, "input") if scene.data is None else self._sample(scene.data, shape)
        return ball(x, region.epsilon, region.norm, region.clip)

    def _sample(self, data: CsvData | DigitsData, shape: tuple[int, ...]) -> Tensor:
        (sample,) = load_samples(self, data.model_copy(update={"count": 1}), shape)
        return sample.x

    def plane(self, config: PlaneShow, network: Network) -> Plane:
        """The picture's plane."""
        given = config.plane
        try:
            name = network.output.name if given.node is None else network[given.node].name
            size = network.size(name)
            return Plane.of(network, _row(given.x, size, "x"), _row(given.y, size, "y"), name)
        except InputError as error:
            raise InputError(f"{self.source}: {error}") from None

    def pair(self, config: GroupShow) -> NeuronPair:
        """The two neurons."""
        group = config.group
        try:
            if isinstance(group, Numbered):
                return NeuronPair.from_bounds(group.lower, group.upper, group.sum, group.difference)
            network, region = self.scene(group)
            return NeuronPair.from_abstraction(
                abstract(network, region, group.method.method), group.node, *group.neurons
            )
        except InputError as error:
            text = str(error)
            raise InputError(text if text.startswith(str(self.source)) else f"{self.source}: {text}") from None


def _reshaped(values: tuple[float, ...], shape: tuple[int, ...], key: str) -> Tensor:
    size = int(torch.Size(shape).numel())
    if len(values) != size:
        raise InputError(f"{key}: {len(values)} numbers, the network takes {size}")
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


def _row(given: int | dict[int, float] | list[float], size: int, key: str) -> Tensor:
    """A direction over a node's ``size`` entries."""
    if isinstance(given, list):
        if len(given) != size:
            raise InputError(f"plane.{key}: {len(given)} weights, the node has {size} entries")
        return torch.tensor(given, dtype=torch.float64)
    weights = {given: 1.0} if isinstance(given, int) else given
    row = torch.zeros(size, dtype=torch.float64)
    for position, weight in weights.items():
        if position >= size:
            raise InputError(f"plane.{key}: there is no entry {position}, the node has {size} (from 0)")
        row[position] = weight
    return row


def load_show(path: Path) -> ShowFile:
    """Reads a configuration. Raises :class:`InputError`, one line that names the file and the key or line."""
    value = read_yaml(path)
    kinds: dict[str, type[PlaneShow] | type[GroupShow]] = {"plane": PlaneShow, "group": GroupShow}
    given = [key for key in kinds if isinstance(value, Mapping) and key in value]
    if len(given) != 1:
        raise InputError(f"{path}: give plane (reachable sets of a network) or group (relaxations of two neurons)")
    return ShowFile(path, check(kinds[given[0]], value, str(path)))
