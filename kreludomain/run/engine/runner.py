"""A run: everything that a configuration can have wrong is found first, then every sample meets every method.

Rows are in the folder as they come. Samples and methods do not know of each other, so the rows do not depend on the
number of workers or on the order of the work.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from kreludomain.activations import Relu
from kreludomain.errors import InputError
from kreludomain.network import Network, Node, Runtime, load
from kreludomain.network.operators import Activation, Input, Linear
from kreludomain.property import Claim, Region, ball, claim, robustness
from kreludomain.run.certify.config import Config
from kreludomain.run.certify.rows import Row
from kreludomain.run.config.data import Sample, load_samples
from kreludomain.run.config.files import ConfigFile
from kreludomain.run.config.methods import NamedMethod
from kreludomain.run.engine.folder import Folder, finite
from kreludomain.run.engine.pool import Pool
from kreludomain.run.engine.schedule import Schedule
from kreludomain.run.engine.worker import HAS_MEMORY_LIMIT, Done, Failure, Kind, Limits
from kreludomain.verify import Verdict, certify, predict

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Run:
    """A configuration with everything that it names: loaded, checked, ready to go."""

    config: Config
    network: Network
    samples: tuple[Sample, ...]

    @property
    def size(self) -> int:
        """How many rows there will be."""
        return len(self.samples) * len(self.config.methods)

    @property
    def limits(self) -> Limits:
        """What one row may take before its worker is killed."""
        config = self.config
        return Limits(None if config.timeout_s is None else config.timeout_s + config.grace_s, config.memory_mb)

    def decider(self) -> functools.partial[tuple[Row, np.ndarray | None]]:
        """What a worker does, in a form that can be sent to one: called with a row to fill in and its sample."""
        return functools.partial(decide, self.config, self.network)


class Work:
    """The rows of a run that are not there yet, computed by a pool."""

    def __init__(self, run: Run, folder: Folder, rows: Iterable[Row] = ()) -> None:
        """``rows``: those of the run that is resumed."""
        self.run, self.folder, self.rows = run, folder, list(rows)
        self._labels = [method.label for method in run.config.methods]
        there = {(row.index, row.method) for row in self.rows}
        every = ((s, m) for s in range(len(run.samples)) for m in range(len(self._labels)))
        missing = [(s, m) for s, m in every if (run.samples[s].index, self._labels[m]) not in there]
        self._schedule = Schedule(missing, len(self._labels))
        self._missing = len(missing)
        for row in self.rows:
            self._schedule.finished(self._labels.index(row.method), row.seconds)

    @property
    def missing(self) -> int:
        """How many rows are not there yet."""
        return self._missing

    def seconds_left(self, workers: int) -> float | None:
        """How long it will take, roughly; ``None`` while there is nothing to judge by."""
        seconds = self._schedule.seconds_left()
        return None if seconds is None else seconds / workers

    def outcomes(self, pool: Pool) -> Iterator[Row]:
        """The rows as they are finished; each is in the folder, and its counterexample before it."""
        running: dict[Future[Done | Failure], tuple[Row, int]] = {}
        while True:
            while len(running) < pool.size and (task := self._schedule.next()) is not None:
                sample, method = self.run.samples[task[0]], task[1]
                row = Row(sample.index, sample.label, self._predicted[task[0]], self._labels[method])
                if self.run.config.claim is None and row.predicted != row.label:
                    reason = f"classified as {row.predicted}, the label is {row.label}"
                    yield self._kept(replace(row, verdict=Verdict.MISCLASSIFIED, reason=reason))
                else:
                    running[pool.submit(row, sample.x, limits=self.run.limits)] = row, method
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                row, method = running.pop(future)
                answer = future.result()
                self._schedule.finished(method, answer.seconds)
                yield self._kept(*(answer.value if isinstance(answer, Done) else (self._failed(row, answer),)))

    @functools.cached_property
    def _predicted(self) -> list[int]:
        """The class of each sample."""
        return [int(predict(self.run.network, sample.x[None])[0]) for sample in self.run.samples]

    def _failed(self, row: Row, failure: Failure) -> Row:
        """One sample's failure, whatever it is, does not take the others with it."""
        verdict = Verdict.TIMEOUT if failure.kind == Kind.TIMEOUT else Verdict.ERROR
        reason = failure.reason
        if failure.kind == Kind.TIMEOUT:
            reason = f"time limit of {self.run.config.timeout_s:g} s; {reason}"
        LOG.warning("sample %d, %s: %s", row.index, row.method, reason)
        return replace(row, verdict=verdict, reason=reason, seconds=failure.seconds)

    def _kept(self, row: Row, counterexample: np.ndarray | None = None) -> Row:
        if counterexample is not None:
            row = replace(row, counterexample=self.folder.keep(counterexample, row.index, row.method))
        self.folder.append(row)
        self.rows.append(row)
        self._missing -= 1
        LOG.info("sample %d, %s: %s after %.3g s (%s)", row.index, row.method, row.verdict, row.seconds, row.reason)
        return row


def decide(config: Config, network: Network, row: Row, x: Tensor) -> tuple[Row, np.ndarray | None]:
    """A row with what its method finds out about ``x``, and the counterexample ``(*input_shape)`` if there is one."""
    (method,) = (m.method for m in config.methods if m.label == row.method)
    found = certify(
        network,
        region_of(config, x),
        claim_of(config, network, row.label),
        method,
        timeout_s=config.timeout_s,
        attack=config.attack,
        tight=config.tight,
        runtime=_runtime(network),
    )
    bounds = tuple(map(finite, found.lower_bounds.tolist()))
    row = replace(
        row,
        verdict=found.verdict,
        lower_bounds=bounds,
        margin=None if None in bounds else float(found.lower_bounds.min()),
        seconds=found.seconds,
        reason=found.reason,
        notes=found.notes,
        widths={name: finite(float(found.bounds[name].width.mean())) for name in layers(network)},
        stages={name: round(seconds, 6) for name, seconds in found.stages.items()},
    )
    return row, None if found.counterexample is None else found.counterexample.cpu().numpy()


@functools.lru_cache(maxsize=1)
def _runtime(network: Network) -> Runtime:
    """The onnxruntime session of a worker's network; sessions cannot be sent to workers."""
    return Runtime(network)


def layers(network: Network) -> tuple[str, ...]:
    """The nodes that reports are about: what activations take, and the output."""
    return tuple(dict.fromkeys((*network.pre_activations, network.output.name)))


def prepare(file: ConfigFile[Config]) -> Run:
    """Loads and checks everything. Raises :class:`InputError` for what would go wrong in every row."""
    config = file.config
    if config.memory_mb is not None and not HAS_MEMORY_LIMIT:
        raise InputError(f"{file.source}: memory_mb: only Linux can limit memory")
    network = load(file.path(config.network))
    samples = load_samples(file, config.data, network.input.shape)
    for sample in samples:
        try:
            region_of(config, sample.x).fit(network)
            claim_of(config, network, sample.label).objective(network)
        except InputError as error:
            raise InputError(f"{file.source}: sample {sample.index}: {error}") from None
    for position, method in enumerate(config.methods):
        try:
            rehearse(config, method)
        except InputError as error:
            raise InputError(f"{file.source}: methods[{position}]: {error}") from None
    return Run(config, network, tuple(samples))


def region_of(config: Config, x: Tensor) -> Region:
    """The region around an input."""
    return ball(x, config.region.epsilon, config.region.norm, config.region.clip)


def claim_of(config: Config, network: Network, label: int) -> Claim:
    """What is claimed of a sample: the configuration's claim, or that its label is the class."""
    if config.claim is None:
        return robustness(label, network.size(network.output.name))
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
        Node("relu", Activation(Relu(), (2,)), ("hidden",)),
        Node("output", Linear(weight, None, (2,)), ("relu",)),
    )
    low, high = config.region.clip or (-1.0, 1.0)
    middle = torch.full((2,), (low + high) / 2, dtype=torch.float64)
    certify(Network(nodes), region_of(config, middle), robustness(0, 2), method.method, attack=False, tight=True)
