"""The configuration of ``kreludomain show``: the keys of its two kinds of YAML file, and their network and region."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field, PlainValidator, Strict, field_validator, model_validator
from torch import Tensor

from kreludomain.analysis.reachable import RELAXATIONS
from kreludomain.data import Sample
from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.options import Keys, Text, wrong
from kreludomain.property import Region, box
from kreludomain.run.config.data import load_samples
from kreludomain.run.config.files import ConfigFile, Data, Interval, Numbers, RunKeys
from kreludomain.run.config.methods import MethodItem, Methods, parse_method
from kreludomain.run.config.networks import NetworkItem
from kreludomain.run.config.region import RegionConfig
from kreludomain.run.engine.record import network_hash, samples_hash


class BoxConfig(Keys):
    """All inputs between ``lower`` and ``upper``: a number an entry, in the input's flat order."""

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


class SceneConfig(Keys):
    """A network and a region: a box, or a ball around ``input`` (flat) or the first row of ``data``."""

    network: NetworkItem
    input: Numbers | None = None
    data: Data | None = None
    region: Annotated[RegionConfig | BoxConfig, BeforeValidator(_region)]

    @model_validator(mode="after")
    def _one_source(self) -> SceneConfig:
        given = [key for key in ("input", "data") if getattr(self, key) is not None]
        if isinstance(self.region, BoxConfig) and given:
            raise wrong({(given[0],): "a box (region with lower and upper) needs none"})
        if isinstance(self.region, RegionConfig):
            if len(given) != 1:
                raise wrong({("region",): "the ball is around input or data; give one of them"})
            self.region.require_one("a picture")
        return self


#: An output by its position, weights by position, or a weight for every output.
DirectionValue = int | dict[int, float] | list[float]


def _direction(value: Any) -> DirectionValue:
    numbers = value if isinstance(value, list) else [*value.values()] if isinstance(value, Mapping) else []
    positions = [value] if isinstance(value, int) else [*value] if isinstance(value, Mapping) else []
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in numbers) or not (numbers or positions):
        raise wrong({(): "give an output's position, weights by position {8: 1, 3: -1}, or a list of weights"})
    if any(isinstance(p, bool) or not isinstance(p, int) or p < 0 for p in positions):
        raise wrong({(): "positions are whole numbers from 0"})
    result: DirectionValue = value
    return result


Direction = Annotated[Any, PlainValidator(_direction)]


class ProjectionConfig(Keys):
    """Two linear expressions in the values of a node (the output if not given), and the labels of the axes."""

    x: Direction
    y: Direction
    node: Text | None = None
    labels: Annotated[tuple[str, str], Strict(False)] | None = None


class HalfPlane(Keys):
    """The half-plane ``x X + y Y <= at`` of the picture, and what it means for the network to be there."""

    x: float = 0.0
    y: float = 0.0
    at: float = 0.0
    label: Text

    @model_validator(mode="after")
    def _has_a_normal(self) -> HalfPlane:
        if self.x == 0 and self.y == 0:
            raise wrong({(): "x and y are both zero: there is no such half-plane"})
        return self


class PlaneConfig(SceneConfig, RunKeys):
    """Reachable sets in a plane; a row is the reachable set itself or a method.

    ``unsafe``: half-planes that sets should be disjoint from. ``accuracy``: the largest distance of a polygon's vertex
    from the method's set, as a share of its size. ``directions``: the most that a method bounds. ``samples``: random
    inputs for the reachable set where it is not computed exactly.
    """

    plane: ProjectionConfig
    unsafe: Annotated[tuple[HalfPlane, ...], Strict(False)] = ()
    methods: Methods
    accuracy: float = Field(1e-3, gt=0, lt=1)
    directions: int = Field(200, ge=16)
    samples: int = Field(5000, ge=2)
    seed: int = 0
    title: str | None = None


class PairBounds(Keys):
    """A pair of neurons by its bounds; ``sum`` and ``difference`` bound ``x1 + x2`` and ``x1 - x2``."""

    lower: Interval
    upper: Interval
    sum: Interval | None = None
    difference: Interval | None = None


class PairInNetwork(SceneConfig):
    """A pair of neurons of a network: a node that feeds a ReLU, two positions, and the method that bounds them."""

    node: Text
    neurons: Annotated[tuple[int, int], Strict(False)]
    method: MethodItem = Field(default_factory=lambda: parse_method("deeppoly"))


def _pair(value: Any) -> PairBounds | PairInNetwork:
    by_name = isinstance(value, Mapping) and bool({"network", "node", "neurons"} & value.keys())
    return (PairInNetwork if by_name else PairBounds).model_validate(value)


class GroupConfig(RunKeys):
    """Relaxations of a pair of neurons; a row is a relaxation. The picture shows its range of ``weights . y``."""

    group: Annotated[PairBounds | PairInNetwork, BeforeValidator(_pair)]
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


@dataclass(frozen=True, eq=False)
class Scene:
    """A network, a region (batch of one) that fits it, and the sample that the region is around, if it is of data."""

    network: Network
    region: Region
    samples: tuple[Sample, ...]

    @classmethod
    def load(cls, file: ConfigFile[RunKeys], config: SceneConfig) -> Scene:
        """Raises :class:`InputError` for a file that cannot be read and for what does not fit the network."""
        network = config.network.load(file)
        shape, given, samples = network.input.shape, config.region, tuple[Sample, ...]()
        if config.data is not None:
            samples = load_samples(file, config.data.model_copy(update={"count": 1}), network)
        with file.named():
            region: Region
            if isinstance(given, BoxConfig):
                region = box(*(_reshaped(values, shape, "region") for values in (given.lower, given.upper)))
            else:
                around = given.surroundings(file.path, network, config.data, samples)
                middle = samples[0] if samples else Sample(0, None, _reshaped(config.input or (), shape, "input"))
                region = around.region(middle)
            return cls(network, region.fit(network), samples)

    def contents(self) -> Mapping[str, str]:
        """The hashes of the network and of the data."""
        return {"network": network_hash(self.network), "data": samples_hash(self.samples)}


def _reshaped(values: tuple[float, ...], shape: tuple[int, ...], key: str) -> Tensor:
    size = int(torch.Size(shape).numel())
    if len(values) != size:
        raise InputError(f"{key}: {len(values)} numbers, the network takes {size}")
    return torch.tensor(values, dtype=torch.float64).reshape(shape)
