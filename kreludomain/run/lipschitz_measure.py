"""A run of ``kreludomain lipschitz``: what its configuration can have wrong is found first, then all is measured."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from kreludomain.analysis.lipschitz import (
    LipSdp,
    LocalBounds,
    RadiusSearch,
    RobustRadius,
    attacked_radius,
    certified_radius,
    estimate_of,
    lipschitz_radius,
    lipsdp,
    local_radius,
    product,
    sampled_slope,
    sampled_slope_anywhere,
)
from kreludomain.deadline import Deadline
from kreludomain.domain import Query
from kreludomain.errors import InputError
from kreludomain.network import Network, Runtime, load
from kreludomain.property import Region, ball, robustness
from kreludomain.run.config.data import Sample, load_samples
from kreludomain.run.config.fields import RegionConfig
from kreludomain.run.config.files import ConfigFile
from kreludomain.run.config.methods import try_method
from kreludomain.run.lipschitz_config import ArchitectureKeys, LipschitzConfig, NetworkKeys, RadiusKeys
from kreludomain.run.lipschitz_rows import ALL, LOCAL, ArchitectureRow, NetworkRow, Row, SampleRow
from kreludomain.verify import predict


@dataclass(frozen=True, eq=False)
class Case:
    """A network, loaded, with its samples and the region around them."""

    keys: NetworkKeys
    network: Network
    runtime: Runtime
    samples: tuple[Sample, ...]
    around: RegionConfig


@dataclass(frozen=True, eq=False)
class Plan:
    """A configuration with everything that it names, ready to go."""

    config: LipschitzConfig
    cases: tuple[Case, ...]

    @property
    def size(self) -> int:
        """How many steps there are."""
        return len(self.config.architectures) + sum(1 + len(case.samples) for case in self.cases)

    def rows(self, say: Callable[[str], None] = lambda text: None) -> Iterator[Row]:
        """Everything, row by row; a network's samples come after it. ``say`` hears what is being worked on."""
        for keys in self.config.architectures:
            say(keys.name)
            yield from architecture_rows(keys, self.config.seed)
        for case in self.cases:
            say(case.keys.name)
            network = network_row(self.config, case)
            yield network
            local = LocalBounds(case.network)
            for sample in case.samples:
                say(f"{case.keys.name}, sample {sample.index}")
                yield sample_row(self.config, case, network, local, sample)


def prepare(file: ConfigFile[LipschitzConfig]) -> Plan:
    """Loads and checks everything. Raises :class:`InputError` for what would go wrong in every row."""
    config, cases = file.config, []
    if config.region is not None:
        methods = {"bounds": config.bounds}
        if config.radius is not None:
            methods |= {f"radius.methods[{i}]": method for i, method in enumerate(config.radius.methods)}
        for key, method in methods.items():
            try:
                try_method(config.region, method)
            except InputError as error:
                raise InputError(f"{file.source}: {key}: {error}") from None
        for keys in config.all_networks:
            network = load(file.path(keys.file))
            samples = _samples(file, network)
            for sample in samples:
                try:
                    _ball(config.region, sample).fit(network)
                    robustness(sample.label, network.size(network.output.name))
                except InputError as error:
                    raise InputError(f"{file.source}: sample {sample.index}: {error}") from None
            cases.append(Case(keys, network, Runtime(network), tuple(samples), config.region))
    return Plan(config, tuple(cases))


def architecture_rows(keys: ArchitectureKeys, seed: int) -> Iterator[ArchitectureRow]:
    """The layers of an architecture and all of them, for each initialisation; estimates beside exact norms."""
    architecture = keys.architecture()
    for name in keys.initialisations:
        estimate = architecture.estimate(name)
        draws = [product(architecture.draw(name, seed + draw)) for draw in range(keys.draws)]
        for position, layer in enumerate(estimate.layers):
            norms = [draw.maps[position].norm.lower for draw in draws]
            label = f"{position + 1}: {layer.name}"
            yield ArchitectureRow(keys.name, name, label, layer.norm, statistics.fmean(norms) if norms else None)
        wholes = [math.prod(found.norm.lower for found in draw.maps) for draw in draws]
        whole = statistics.fmean(wholes) if wholes else None
        yield ArchitectureRow(keys.name, name, ALL, estimate.lipschitz, whole, estimate.slope)


def network_row(config: LipschitzConfig, case: Case) -> NetworkRow:
    """The constants of a network for all inputs."""
    start, norm = time.monotonic(), case.around.norm
    estimate, sdp, note = None, None, "for l_2 only"
    if norm == "2":
        if case.keys.initialisation is not None:
            try:
                estimate = estimate_of(case.network, case.keys.initialisation).lipschitz
            except InputError:
                estimate = None  # its architecture has layers that no initialisation draws
        sdp, note = _semidefinite(config, case.network)
    starts = torch.stack([sample.x for sample in case.samples])
    return NetworkRow(
        network=case.keys.name,
        norm=norm,
        estimate=estimate,
        product=product(case.network, norm).upper,
        lipsdp=None if sdp is None else sdp.upper,
        lipsdp_claimed=None if sdp is None else sdp.claimed,
        lipsdp_note=note,
        sampled=sampled_slope_anywhere(case.network, starts, norm, seed=config.seed).lower,
        seconds=time.monotonic() - start,
        axes=case.keys.axes,
    )


def _semidefinite(config: LipschitzConfig, network: Network) -> tuple[LipSdp | None, str]:
    """The semidefinite bound and how it ended, or why there is none."""
    keys = config.lipsdp
    if keys is False:
        return None, "switched off"
    try:
        found = lipsdp(network, keys.solver, keys.timeout_s, keys.neurons)
    except InputError as error:
        return None, str(error).removeprefix("lipsdp: ")
    return found, found.status


def sample_row(
    config: LipschitzConfig, case: Case, network: NetworkRow, local: LocalBounds, sample: Sample
) -> SampleRow:
    """The constants over the region around a sample, and its robust radii."""
    start, around = time.monotonic(), case.around
    predicted = int(predict(case.network, sample.x[None])[0])
    row = SampleRow(case.keys.name, sample.index, sample.label, predicted, around.norm, around.epsilon)
    try:
        region = _ball(around, sample)
        bounds = config.bounds.method.abstract(
            Query(case.network, region, deadline=Deadline.after(config.timeout_s))
        ).bounds
        constant = local.constant(bounds, around.norm)
        row = replace(
            row,
            local=constant,
            upper=network.bracket.with_upper(LOCAL, constant).upper,
            sampled=sampled_slope(case.network, region, around.norm, config.samples, seed=config.seed).lower,
        )
        if config.radius is not None and predicted == sample.label:
            row = _with_radii(row, config, config.radius, case, network, local, sample)
    except Exception as error:  # one sample's failure, whatever it is, must not take the others with it
        row = replace(row, notes=(*row.notes, " ".join(f"{type(error).__name__}: {error}".split())))
    if predicted != sample.label:
        row = replace(row, notes=(*row.notes, f"classified as {predicted}, the label is {sample.label}"))
    return replace(row, seconds=time.monotonic() - start)


def _with_radii(
    row: SampleRow,
    config: LipschitzConfig,
    keys: RadiusKeys,
    case: Case,
    network: NetworkRow,
    local: LocalBounds,
    sample: Sample,
) -> SampleRow:
    """The row with every radius; a method begins its search where the ones before it got to."""
    x, norm = sample.x[None], case.around.norm
    search = RadiusSearch(keys.largest, norm, case.around.clip, keys.tolerance)
    radii: dict[str, float] = {
        name: min(keys.largest, lipschitz_radius(case.network, x, sample.label, constant, norm))
        for name, constant in network.bracket.uppers.items()
    }
    notes: list[str] = []

    def note(name: str, found: RobustRadius) -> None:
        radii[name] = found.certified
        notes.extend(f"{name}: {text}" for text in found.notes)

    deadline = Deadline.after(config.timeout_s)
    note(LOCAL, local_radius(local, x, sample.label, search, config.bounds.method, deadline))
    for method in keys.methods:
        deadline, begin = Deadline.after(config.timeout_s), max(radii.values())
        found = certified_radius(case.network, x, sample.label, search, method.method, deadline, begin)
        note(method.label, found)
    attacked = None
    if keys.attack:
        deadline = Deadline.after(config.timeout_s)
        attacked = attacked_radius(case.network, x, sample.label, search, case.runtime, deadline)
    return replace(row, radii=radii, attacked=attacked, notes=(*row.notes, *notes))


def _samples(file: ConfigFile[LipschitzConfig], network: Network) -> list[Sample]:
    data = file.config.data
    return [] if data is None else load_samples(file, data, network.input.shape)


def _ball(around: RegionConfig, sample: Sample) -> Region:
    return ball(sample.x, around.epsilon, around.norm, around.clip)
