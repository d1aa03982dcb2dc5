"""The study ``invert``: radii of invertibility around points, and of one network being a function of another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from kreludomain.analysis.invert import (
    InvertibilityOptions,
    InvertibilityRadius,
    check_can_be_invertible,
    check_same_inputs,
    pair_radius,
    preimage_radius,
    transformation_radius,
)
from kreludomain.data import Sample
from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.programs.solvers.highs import version as highs_version
from kreludomain.run.config.data import load_samples
from kreludomain.run.config.files import ConfigFile
from kreludomain.run.config.methods import NamedMethod, try_methods
from kreludomain.run.engine.folder import Folder
from kreludomain.run.engine.record import network_hash, samples_hash
from kreludomain.run.engine.study import Computed, Study, Task
from kreludomain.run.invert.config import InvertConfig
from kreludomain.run.invert.rows import RadiusRow, methods_table, radii_csv, radii_table


@dataclass(frozen=True, kw_only=True, eq=False)
class RadiusTask(Task[RadiusRow]):
    """A radius: its ``center``, and how it is searched."""

    center: Tensor
    options: InvertibilityOptions


@dataclass(frozen=True, eq=False)
class Invert(Study[InvertConfig, RadiusTask, RadiusRow]):
    """``kreludomain invert``. ``networks``: by name, the configuration's ``network`` first, then those of ``onto``."""

    name = "invert"
    help = "Certify how far around points a network is invertible, or one network a function of another."
    config_model = InvertConfig
    row_type = RadiusRow
    files = ("radii.*", "plane.*")
    outcomes = ("closed", "open")

    config: InvertConfig
    networks: Mapping[str, Network]
    centers: tuple[Sample, ...]
    curve: np.ndarray | None

    @classmethod
    def prepare(cls, file: ConfigFile[InvertConfig]) -> Invert:
        config = file.config
        named = [(each.name, each.load(file)) for each in (config.network, *config.onto)]
        network, others = named[0][1], [other for _, other in named[1:]]
        window = config.plane
        curve = None if window is None or window.curve is None else read_curve(file.path(window.curve.csv))
        data = () if config.data is None else load_samples(file, config.data, network)
        with file.named():
            twice = [name for name, count in Counter(name for name, _ in named).items() if count > 1]
            if twice:
                raise InputError(f"onto: two networks are called {twice[0]}; rename one of the files")
            if "r" in config.asked:
                check_can_be_invertible(network)
            for other in others:
                check_same_inputs(network, other)
            sizes = network.size(network.input.name), network.size(network.output.name)
            if window is not None and sizes != (2, 2):
                raise InputError(
                    f"plane: a picture takes 2 inputs and 2 outputs, the network has {sizes[0]} and {sizes[1]}"
                )
            for norm in config.norms:
                _options(config, norm, config.methods[0])
            centers = (*data, *_points(config, network))
        for norm in config.norms:
            try_methods(file, norm, config.methods)
        return cls(config, dict(named), centers, curve)

    def notes(self) -> Sequence[str]:
        return [f"{name}: {note}" for name, network in self.networks.items() for note in network.notes]

    def contents(self) -> Mapping[str, str]:
        networks = {f"network {name}": network_hash(network) for name, network in self.networks.items()}
        return {**networks, "data": samples_hash(self.centers)}

    def tasks(self) -> Sequence[RadiusTask]:
        return [
            self._task(center, *question, norm, method)
            for center in self.centers
            for question in self._questions()
            for norm in self.config.norms
            for method in self.config.methods
        ]

    def _questions(self) -> Iterator[tuple[str, str, str | None]]:
        """Every question with the names of its networks."""
        name, *others = self.networks
        for question in self.config.asked:
            if question != "transformation":
                yield question, name, None
                continue
            for other in others:
                yield question, name, other
                if self.config.both_ways:
                    yield question, other, name

    def _task(
        self, center: Sample, question: str, network: str, onto: str | None, norm: str, method: NamedMethod
    ) -> RadiusTask:
        c, at = self.config, tuple(center.x.flatten().tolist())
        row = RadiusRow(center.index, at, question, network, onto, norm, method.label, c.epsilon, c.radius)
        return RadiusTask(
            text=f"{row.asked}, norm {norm}, {method.label}",
            kind=f"{question} {method.label}",
            row=row,
            center=center.x,
            options=_options(c, norm, method),
        )

    def compute(self, task: RadiusTask, needed: RadiusRow | None) -> Computed[RadiusRow]:
        return Computed(task.row.with_radius(self._radius(task)))

    def _radius(self, task: RadiusTask) -> InvertibilityRadius:
        network, given = self.networks[task.row.network], (task.center, task.options, self.config.timeout_s)
        if task.row.onto is not None:
            return transformation_radius(network, self.networks[task.row.onto], *given)
        return (pair_radius if task.row.question == "r" else preimage_radius)(network, *given)

    def report(self, folder: Folder, rows: Sequence[RadiusRow], console: Console) -> None:
        from kreludomain.run.invert import figures  # matplotlib: imports for a second, and only here

        folder.write("radii.csv", radii_csv(rows))
        folder.write_all(figures.radii_figure(rows))
        if self.config.plane is not None:
            network = next(iter(self.networks.values()))
            folder.write_all(figures.plane_figure(self.config, self.config.plane, network, self.curve, rows))
        console.print(radii_table(rows))
        if len(self.config.methods) > 1:
            console.print(methods_table(rows))

    def solver_versions(self) -> Mapping[str, str]:
        return {"highs": highs_version()}


def _options(c: InvertConfig, norm: str, method: NamedMethod) -> InvertibilityOptions:
    return InvertibilityOptions(c.radius, c.epsilon, norm, c.clip, method.method, c.gap, c.stages, c.strict)


def _points(config: InvertConfig, network: Network) -> Iterator[Sample]:
    """The centres that the configuration gives as numbers, as samples without a label."""
    size = network.size(network.input.name)
    for index, point in enumerate(config.points or ()):
        if len(point) != size:
            raise InputError(f"points[{index}]: {len(point)} numbers, the network takes {size}")
        if config.clip is not None and not all(config.clip[0] <= value <= config.clip[1] for value in point):
            raise InputError(f"points[{index}]: lies outside clip {list(config.clip)}")
        yield Sample(index, None, torch.tensor(point, dtype=torch.float64).reshape(network.input.shape))


def read_curve(path: Path) -> np.ndarray:
    """Points ``(N, 2)`` of a CSV file. Raises :class:`InputError` that names the file."""
    if not path.exists():
        raise InputError(f"{path}: no such file")
    try:
        points = np.loadtxt(path, delimiter=",", ndmin=2)
    except ValueError as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}") from None
    if points.shape[1] != 2 or not np.isfinite(points).all():
        raise InputError(f"{path}: rows of two finite numbers are expected")
    return points
