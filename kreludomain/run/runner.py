"""A run: everything that a configuration can have wrong is found first, then every sample meets every method."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network import Network, Node, Runtime, load
from kreludomain.network.operators import Input, Linear, Relu
from kreludomain.run.config import Config, ConfigFile
from kreludomain.run.data import Sample, load_samples
from kreludomain.run.options import NamedMethod
from kreludomain.run.results import Folder, Row, finite
from kreludomain.spec import Claim, Region, ball, claim, robustness
from kreludomain.verify import Certificate, Verdict, certify, predict


@dataclass(frozen=True)
class Outcome:
    """A row, and the mean width of the bounds of each layer by its name (nothing where no method ran)."""

    row: Row
    widths: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Run:
    """A configuration with everything that it names: loaded, checked, ready to go."""

    config: Config
    network: Network
    runtime: Runtime
    samples: tuple[Sample, ...]

    @property
    def size(self) -> int:
        """How many rows there will be."""
        return len(self.samples) * len(self.config.methods)

    def outcomes(self, folder: Folder) -> Iterator[Outcome]:
        """Every sample with every method, samples first; rows and counterexamples are in the folder as they come."""
        for sample in self.samples:
            predicted = int(predict(self.network, sample.x[None])[0])
            for method in self.config.methods:
                outcome = self._outcome(sample, predicted, method, folder)
                folder.append(outcome.row)
                yield outcome

    def _outcome(self, sample: Sample, predicted: int, method: NamedMethod, folder: Folder) -> Outcome:
        row = Row(sample.index, sample.label, predicted, method.label)
        if self.config.claim is None and predicted != sample.label:
            reason = f"classified as {predicted}, the label is {sample.label}"
            return Outcome(replace(row, verdict=Verdict.MISCLASSIFIED, reason=reason))
        start = time.monotonic()
        try:
            found = self._certify(sample, method)
        except Exception as error:  # one sample's failure, whatever it is, must not take the others with it
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            seconds = time.monotonic() - start
            return Outcome(replace(row, verdict=Verdict.ERROR, reason=reason, seconds=seconds))
        bounds = finite(found.lower_bounds)
        row = replace(
            row,
            verdict=found.verdict,
            lower_bounds=bounds,
            margin=None if None in bounds else float(found.lower_bounds.min()),
            seconds=found.seconds,
            reason=found.reason,
            notes=found.notes,
        )
        if found.counterexample is not None:
            row = replace(row, counterexample=folder.keep(found.counterexample, sample.index, method.label))
        return Outcome(row, {name: float(found.bounds[name].width.mean()) for name in layers(self.network)})

    def _certify(self, sample: Sample, method: NamedMethod) -> Certificate:
        return certify(
            self.network,
            region_of(self.config, sample.x),
            claim_of(self.config, self.network, sample),
            method.method,
            timeout_s=self.config.timeout_s,
            attack=self.config.attack,
            tight=self.config.tight,
            runtime=self.runtime,
        )


def layers(network: Network) -> tuple[str, ...]:
    """The nodes that reports are about: what activations take, and the output."""
    return tuple(dict.fromkeys((*network.pre_activations, network.output.name)))


def prepare(file: ConfigFile[Config]) -> Run:
    """Loads and checks everything. Raises :class:`InputError` for what would go wrong in every row."""
    config = file.config
    network = load(file.path(config.network))
    samples = load_samples(file, config.data, network.input.shape)
    for sample in samples:
        try:
            region_of(config, sample.x).fit(network)
            claim_of(config, network, sample).objective(network)
        except InputError as error:
            raise InputError(f"{file.source}: sample {sample.index}: {error}") from None
    for position, method in enumerate(config.methods):
        try:
            rehearse(config, method)
        except InputError as error:
            raise InputError(f"{file.source}: methods[{position}]: {error}") from None
    return Run(config, network, Runtime(network), tuple(samples))


def region_of(config: Config, x: Tensor) -> Region:
    """The region around an input."""
    return ball(x, config.region.epsilon, config.region.norm, config.region.clip)


def claim_of(config: Config, network: Network, sample: Sample) -> Claim:
    """What is claimed of a sample: the configuration's claim, or that its label is the class."""
    if config.claim is None:
        return robustness(sample.label, network.size(network.output.name))
    d = None if config.claim.d is None else torch.tensor(config.claim.d, dtype=torch.float64)
    return claim(torch.tensor(config.claim.C, dtype=torch.float64), d)


def rehearse(config: Config, method: NamedMethod) -> None:
    """One method on a network of two neurons and a region of the run's kind.

    This takes no time and meets what only shows when a method is used, such as a solver that cannot take the region.
    """
    weight = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    nodes = (
        Node("input", Input((2,))),
        Node("hidden", Linear(weight, None, (2,)), ("input",)),
        Node("relu", Relu((2,)), ("hidden",)),
        Node("output", Linear(weight, None, (2,)), ("relu",)),
    )
    low, high = config.region.clip or (-1.0, 1.0)
    middle = torch.full((2,), (low + high) / 2, dtype=torch.float64)
    certify(Network(nodes), region_of(config, middle), robustness(0, 2), method.method, attack=False, tight=True)
