"""The parts that both kinds of ``show`` share: the command's name, and the network and region of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network import Network, load
from kreludomain.property import Region, box
from kreludomain.run.config.data import Sample, load_samples
from kreludomain.run.config.files import ConfigFile, RunKeys
from kreludomain.run.engine.record import network_hash, samples_hash
from kreludomain.run.engine.study import AnyRow, AnyTask, Config, Study
from kreludomain.run.show.config import BoxConfig, SceneConfig


class ShowStudy(Study[Config, AnyTask, AnyRow]):
    """``kreludomain show``, of either kind."""

    name = "show"
    help = "Draw reachable sets in a plane, or the relaxations of a pair of neurons, as CONFIG says."
    files = ("reach.*", "sets.csv", "reachable_set.npz", "group.*")


@dataclass(frozen=True, eq=False)
class Scene:
    """A network, a region (batch of one) that fits it, and the sample that the region is around, if it is of data."""

    network: Network
    region: Region
    samples: tuple[Sample, ...]

    @classmethod
    def load(cls, file: ConfigFile[RunKeys], config: SceneConfig) -> Scene:
        """Raises :class:`InputError` for a file that cannot be read and for what does not fit the network."""
        network = load(file.path(config.network))
        shape, given, samples = network.input.shape, config.region, list[Sample]()
        if config.data is not None:
            samples = load_samples(file, config.data.model_copy(update={"count": 1}), shape)
        with file.named():
            region: Region
            if isinstance(given, BoxConfig):
                region = box(*(_reshaped(values, shape, "region") for values in (given.lower, given.upper)))
            else:
                region = given.around(samples[0].x if samples else _reshaped(config.input or (), shape, "input"))
            return cls(network, region.fit(network), tuple(samples))

    def contents(self) -> Mapping[str, str]:
        """The hashes of the network and of the data."""
        return {"network": network_hash(self.network), "data": samples_hash(self.samples)}


def _reshaped(values: tuple[float, ...], shape: tuple[int, ...], key: str) -> Tensor:
    size = int(torch.Size(shape).numel())
    if len(values) != size:
        raise InputError(f"{key}: {len(values)} numbers, the network takes {size}")
    return torch.tensor(values, dtype=torch.float64).reshape(shape)
