"""``kreludomain lipschitz``: a row an architecture and initialisation, a row a network, a row a sample."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from rich.console import Console

from kreludomain.analysis.lipschitz import (
    LocalBounds,
    RadiusSearch,
    attacked_radius,
    estimate_of,
    lipsdp,
    product,
    robust_radii,
    sampled_slope,
    sampled_slope_anywhere,
)
from kreludomain.data import Sample
from kreludomain.data.keys import DataKeys
from kreludomain.deadline import Deadline
from kreludomain.domain import Query
from kreludomain.errors import InputError
from kreludomain.network import Network, Runtime
from kreludomain.property import robustness
from kreludomain.run.config.data import load_samples
from kreludomain.run.config.files import ConfigFile
from kreludomain.run.config.methods import try_method, try_methods
from kreludomain.run.config.region import RegionConfig, Surroundings
from kreludomain.run.engine.folder import Folder
from kreludomain.run.engine.record import network_hash, samples_hash
from kreludomain.run.engine.study import Computed, Study, Task
from kreludomain.run.lipschitz.config import ArchitectureKeys, LipschitzConfig, NetworkKeys, RadiusKeys
from kreludomain.run.lipschitz.rows import (
    AnyRow,
    ArchitectureRow,
    LayerNorm,
    NetworkRow,
    Report,
    SampleRow,
    csv_files,
    screen_tables,
)
from kreludomain.run.output.tables import mean
from kreludomain.verify import predict


@dataclass(frozen=True, eq=False)
class Case:
    """A network, loaded, with its samples and the region around them."""

    keys: NetworkKeys
    network: Network
    samples: tuple[Sample, ...]
    around: Surroundings

    @cached_property
    def local(self) -> LocalBounds:
        """Computed in a worker, once for all of its samples; so is :attr:`runtime`."""
        return LocalBounds(self.network)

    @cached_property
    def runtime(self) -> Runtime:
        return Runtime(self.network)

    @classmethod
    def load(cls, file: ConfigFile[LipschitzConfig], keys: NetworkKeys, data: DataKeys, region: RegionConfig) -> Case:
        """Raises :class:`InputError` for a file or a sample that does not fit."""
        network = keys.load(file)
        Runtime(network)  # raises for a model that onnxruntime cannot run
        samples = load_samples(file, data, network)
        with file.named():
            around = region.surroundings(file.path, network, data, samples)
        for sample in samples:
            with file.named(f"sample {sample.index}"):
                around.region(sample).fit(network)
                robustness(sample.known_label, network.size(network.output.name))
        return cls(keys, network, samples, around)


@dataclass(frozen=True, kw_only=True, eq=False)
class LipschitzTask(Task[AnyRow]):
    """A task that fills its ``row`` itself."""

    @abstractmethod
    def compute(self, study: LipschitzStudy, needed: AnyRow | None) -> AnyRow:
        """The row; ``needed`` is that of the sample's network."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ArchitectureTask(LipschitzTask):
    """The estimate of an architecture beside the exact norms of random networks."""

    row: ArchitectureRow
    keys: ArchitectureKeys

    def compute(self, study: LipschitzStudy, needed: AnyRow | None) -> ArchitectureRow:
        architecture, name = self.keys.architecture(), self.row.initialisation
        estimate = architecture.estimate(name)
        draws = [product(architecture.draw(name, study.config.seed + draw)) for draw in range(self.keys.draws)]
        layers = [
            LayerNorm(f"{position + 1}: {layer.name}", layer.norm, mean(d.maps[position].norm.lower for d in draws))
            for position, layer in enumerate(estimate.layers)
        ]
        measured = mean(math.prod(found.norm.lower for found in draw.maps) for draw in draws)
        row = replace(self.row, estimate=estimate.lipschitz, measured=measured, slope=estimate.slope)
        return replace(row, layers=tuple(layers))


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkTask(LipschitzTask):
    """The constants of a network for all inputs."""

    row: NetworkRow
    case: int

    def compute(self, study: LipschitzStudy, needed: AnyRow | None) -> NetworkRow:
        config, case, row, norm = study.config, study.cases[self.case], self.row, self.row.norm
        if norm == "2":
            row = _with_semidefinite(row, config, case.network)
            row = replace(row, estimate=_estimate(case))
        starts = torch.stack([sample.x for sample in case.samples])
        sampled = sampled_slope_anywhere(case.network, starts, norm, seed=config.seed).lower
        return replace(row, product=product(case.network, norm).upper, sampled=sampled)


def _estimate(case: Case) -> float | None:
    """The estimate of the network's architecture; ``None`` where it has layers that no initialisation draws."""
    if case.keys.initialisation is None:
        return None
    try:
        return estimate_of(case.network, case.keys.initialisation).lipschitz
    except InputError:
        return None


def _with_semidefinite(row: NetworkRow, config: LipschitzConfig, network: Network) -> NetworkRow:
    """The row with the semidefinite bound and how the solver ended, or why there is none."""
    keys = config.lipsdp
    if keys is False:
        return replace(row, lipsdp_note="switched off")
    try:
        found = lipsdp(network, keys.solver, keys.timeout_s, keys.neurons)
    except InputError as error:
        return replace(row, lipsdp_note=str(error).removeprefix("lipsdp: "))
    return replace(row, lipsdp=found.upper, lipsdp_claimed=found.claimed, lipsdp_note=found.status)


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleTask(LipschitzTask):
    """The constants over the region around a sample, and its robust radii; needs the network's row."""

    row: SampleRow
    case: int
    sample: Sample

    def compute(self, study: LipschitzStudy, needed: AnyRow | None) -> SampleRow:
        config, case, sample, norm = study.config, study.cases[self.case], self.sample, self.row.norm
        uppers = needed.uppers if isinstance(needed, NetworkRow) else {}
        predicted = int(predict(case.network, sample.x[None])[0])
        region = case.around.region(sample)
        query = Query(case.network, region, deadline=Deadline.after(config.timeout_s))
        constant = case.local.constant(config.bounds.method.abstract(query).bounds, norm)
        row = replace(
            self.row,
            predicted=predicted,
            local=constant,
            upper=min([constant, *uppers.values()]),
            sampled=sampled_slope(case.network, region, norm, config.samples, seed=config.seed).lower,
        )
        if predicted != sample.label:
            return replace(row, reason=f"classified as {predicted}, the label is {sample.label}")
        return row if config.radius is None else _with_radii(row, config, config.radius, case, sample, uppers)


def _with_radii(
    row: SampleRow, config: LipschitzConfig, keys: RadiusKeys, case: Case, sample: Sample, uppers: Mapping[str, float]
) -> SampleRow:
    """The row with every radius."""
    x, label, seconds = sample.x[None], sample.known_label, config.timeout_s
    search = RadiusSearch(keys.largest, row.norm, case.around.clip, keys.tolerance, case.around.kept)
    methods = {method.label: method.method for method in keys.methods}
    found = robust_radii(case.local, x, label, search, uppers, config.bounds.method, methods, seconds)
    deadline = Deadline.after(seconds)
    attacked = attacked_radius(case.network, x, label, search, case.runtime, deadline) if keys.attack else None
    radii = {name: radius.certified for name, radius in found.items()}
    notes = tuple(f"{name}: {text}" for name, radius in found.items() for text in radius.notes)
    return replace(row, radii=radii, attacked=attacked, notes=notes)


@dataclass(frozen=True, eq=False)
class LipschitzStudy(Study[LipschitzConfig, LipschitzTask, AnyRow]):
    """Constants as brackets, and the robust radii that follow from them."""

    name = "lipschitz"
    help = "Bracket Lipschitz constants, and compare the robust radii that follow with certified ones."
    config_model = LipschitzConfig
    row_type = AnyRow
    files = ("networks.csv", "samples.csv", "architectures.*", "lipschitz.*g")

    config: LipschitzConfig
    cases: tuple[Case, ...]

    @classmethod
    def prepare(cls, file: ConfigFile[LipschitzConfig]) -> LipschitzStudy:
        config = file.config
        if config.data is None or config.region is None:  # architectures only
            return cls(config, ())
        with file.named("bounds"):
            try_method(config.region.norm, config.bounds)
        if config.radius is not None:
            try_methods(file, config.region.norm, config.radius.methods, "radius.methods")
        return cls(config, tuple(Case.load(file, keys, config.data, config.region) for keys in config.all_networks))

    def notes(self) -> Sequence[str]:
        return [f"{case.keys.name}: {note}" for case in self.cases for note in case.network.notes]

    def contents(self) -> Mapping[str, str]:
        networks = {f"network {case.keys.name}": network_hash(case.network) for case in self.cases}
        data = {f"data of {case.keys.name}": samples_hash(case.samples) for case in self.cases}
        regions = {
            f"{name} of {case.keys.name}": h for case in self.cases for name, h in case.around.contents().items()
        }
        return networks | data | regions

    def tasks(self) -> Sequence[LipschitzTask]:
        return [*self._architectures(), *(task for position in range(len(self.cases)) for task in self._case(position))]

    def _architectures(self) -> Iterator[LipschitzTask]:
        for keys in self.config.architectures:
            for initialisation in dict.fromkeys(keys.initialisations):
                row, text = ArchitectureRow(keys.name, initialisation), f"{keys.name}, {initialisation}"
                yield ArchitectureTask(text=text, kind=keys.name, row=row, keys=keys)

    def _case(self, position: int) -> Iterator[LipschitzTask]:
        """A network's task, and those of its samples."""
        config, case = self.config, self.cases[position]
        name, norm, seconds = case.keys.name, case.around.norm, config.timeout_s
        lipsdp_s = 0.0 if config.lipsdp is False else config.lipsdp.timeout_s
        searches = 0 if config.radius is None else 2 + len(config.radius.methods)  # local, methods, attack
        network = NetworkRow(name, norm, axes=case.keys.axes, lipsdp_note="for l_2 only")
        limit = seconds and seconds + lipsdp_s
        yield NetworkTask(text=name, kind="networks", timeout_s=limit, row=network, case=position)
        epsilon = None if config.region is None else config.region.number
        for sample in case.samples:
            row = SampleRow(name, sample.index, sample.known_label, norm, epsilon)
            yield SampleTask(
                text=f"{name}, sample {sample.index}",
                kind=name,
                timeout_s=seconds and seconds * (1 + searches),
                needs=network.key,
                row=row,
                case=position,
                sample=sample,
            )

    def compute(self, task: LipschitzTask, needed: AnyRow | None) -> Computed[AnyRow]:
        start = time.monotonic()
        return Computed(replace(task.compute(self, needed), seconds=time.monotonic() - start))

    def report(self, folder: Folder, rows: Sequence[AnyRow], console: Console) -> None:
        from kreludomain.run.lipschitz.plots import figures  # matplotlib: imports for a second, and only here

        report = Report.of(rows)
        console.print(*screen_tables(report), sep="\n")
        folder.write_all(csv_files(report))
        folder.write_all(figures(report))

    def problems(self, folder: Folder, rows: Sequence[AnyRow]) -> Sequence[str]:
        violations = Report.of(rows).violations
        return [f"bounds contradict each other, which is a bug: {'; '.join(violations)}"] if violations else []
