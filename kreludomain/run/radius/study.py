"""The study ``radius``: how far around every sample its claim is proved, by every method, and how near it fails."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator
from rich.console import Console

from kreludomain.data import Sample
from kreludomain.data.keys import DataKeys
from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.options import wrong
from kreludomain.property import Claim, Monotonicity, Question, Region, Robust
from kreludomain.property.around import number
from kreludomain.run.certify.study import runtime_of
from kreludomain.run.config.data import load_samples
from kreludomain.run.config.files import ConfigFile, Data, RunKeys
from kreludomain.run.config.methods import AttackItem, Methods, NamedMethod, try_methods
from kreludomain.run.config.networks import NetworkItem
from kreludomain.run.config.questions import QuestionItem
from kreludomain.run.config.region import RegionConfig, RegionShape, Surroundings
from kreludomain.run.engine.folder import Folder, array_file, file_name
from kreludomain.run.engine.record import network_hash, samples_hash
from kreludomain.run.engine.study import Computed, Study, Task
from kreludomain.run.output.figures import norm_name
from kreludomain.run.output.tables import finite
from kreludomain.run.radius.rows import (
    ATTACK,
    RadiusRow,
    Summary,
    accuracy,
    contradictions,
    csv_files,
    samples_table,
    summarise,
    summary_table,
)
from kreludomain.verify import Radius, radius


def _largest(value: float | str | None) -> float | None:
    if value is None:
        return None
    try:
        found = number(value)
    except InputError as error:
        raise wrong({(): str(error)}) from None
    if not 0 < found < math.inf:
        raise wrong({(): f"{found:g} is not a number above 0"})
    return found


class RadiusRegion(RegionConfig):
    """The shape of the regions around samples, which the search makes larger and smaller.

    ``epsilon`` or ``epsilons``: numbers at which the claim is decided besides. An ``epsilon`` of its own for each entry
    or sample is what a radius of 1 is.
    """

    def surroundings(
        self,
        path: Callable[[str], Path],
        network: Network,
        data: DataKeys | None = None,
        samples: Sequence[Sample] = (),
    ) -> Surroundings:
        free = self.epsilon is None and self.epsilons is None and all(sample.epsilon is None for sample in samples)
        kind = RegionShape if free else RegionConfig
        return kind.surroundings(self, path, network, data, samples)


class RadiusConfig(RunKeys):
    """A configuration file of ``kreludomain radius``; a row is a sample and a method.

    ``bisect``: whether radii are looked for, up to ``largest`` and to the relative ``tolerance``, or the claim is only
    decided at the epsilons of ``region``. ``timeout_s``: for a radius. The other keys are those of ``certify``.
    """

    network: NetworkItem
    data: Data
    region: RadiusRegion
    claim: QuestionItem = Robust()
    methods: Methods
    largest: Annotated[float | str | None, AfterValidator(_largest)] = None
    tolerance: float = Field(0.01, gt=0, lt=1)
    bisect: bool = True
    attack: AttackItem = True
    strict: bool = False

    @model_validator(mode="after")
    def _whole(self) -> RadiusConfig:
        if not self.bisect and self.region.epsilon is None and self.region.epsilons is None:
            raise wrong(
                {("bisect",): "nothing is left to do; region.epsilons says at which epsilons to decide the claim"}
            )
        for position, method in enumerate(self.methods):
            if method.label == ATTACK:
                raise wrong({("methods", position): f"'{ATTACK}' is the label of the search for counterexamples"})
        return self


@dataclass(frozen=True, kw_only=True, eq=False)
class RadiusTask(Task[RadiusRow]):
    """A sample and the method that proves its claim; ``None``: counterexamples are looked for."""

    sample: Sample
    method: NamedMethod | None


@dataclass(frozen=True, eq=False)
class RadiusStudy(Study[RadiusConfig, RadiusTask, RadiusRow]):
    """``kreludomain radius``."""

    name = "radius"
    help = "Find how far around every sample of CONFIG its claim is proved, and how near it fails."
    config_model = RadiusConfig
    row_type = RadiusRow
    files = ("counterexamples/*.npy", "radii.csv", "certified_accuracy.*")
    outcomes = ("certified",)

    config: RadiusConfig
    network: Network
    samples: tuple[Sample, ...]
    question: Question
    around: Surroundings

    @classmethod
    def prepare(cls, file: ConfigFile[RadiusConfig]) -> RadiusStudy:
        config = file.config
        network = config.network.load(file)
        samples = load_samples(file, config.data, network)
        with file.named("claim"):
            question = config.claim.named(samples[0].names)
        with file.named():
            around = config.region.surroundings(file.path, network, config.data, samples)
        study = cls(config, network, samples, question, around)
        for sample in samples:
            with file.named(f"sample {sample.index}"):
                study.region(sample, 0.0).fit(network)
                study.claim_of(sample).require_fit(network)
        try_methods(file, config.region.norm, config.methods)
        return study

    def claim_of(self, sample: Sample) -> Claim:
        """The claim about a sample."""
        found = self.question.claim(self.network, sample.label, sample.target)
        if isinstance(found, Monotonicity):
            raise InputError("claim: a radius is that of a claim about outputs, not about slopes")
        return found

    def region(self, sample: Sample, epsilon: float) -> Region:
        """The region of ``epsilon`` around a sample: of so many times each entry's own epsilon, where it has one."""
        own = self.around.epsilon if self.around.epsilon is not None else sample.epsilon
        if own is None or (own.dim() == 0 and self.config.region.number is not None):
            return self.around.region(sample, epsilon)
        return self.around.region(sample, epsilon * own)

    @property
    def is_scaled(self) -> bool:
        """Whether radii are multiples of each entry's or sample's own epsilon."""
        region = self.config.region
        own = region.epsilon is not None and region.number is None
        return own or (region.epsilons is None and any(sample.epsilon is not None for sample in self.samples))

    @property
    def epsilons(self) -> tuple[float, ...]:
        """Those at which the claim is decided besides, ascending."""
        if self.config.region.number is not None:
            return (self.config.region.number,)
        found = tuple(sorted(epsilon for epsilon in self.around.epsilons if epsilon is not None))
        return (1.0,) if self.is_scaled else found

    def notes(self) -> Sequence[str]:
        return self.network.notes

    def contents(self) -> Mapping[str, str]:
        return {"network": network_hash(self.network), "data": samples_hash(self.samples), **self.around.contents()}

    def tasks(self) -> Sequence[RadiusTask]:
        return [task for sample in self.samples for task in self._tasks(sample)]

    def _tasks(self, sample: Sample) -> Sequence[RadiusTask]:
        """The search for counterexamples, which a sample needs once, and the methods, which need what it finds."""
        target = "" if sample.target is None else f"{sample.target:g}"
        said = self.config.claim.of(sample.label, sample.name).words(sample.name or str(sample.label), target)
        row = RadiusRow(sample.index, sample.label, None, ATTACK, name=sample.name, target=sample.target, claim=said)
        attack = RadiusTask(row=row, text=f"sample {sample.index}, {ATTACK}", kind=ATTACK, sample=sample, method=None)
        attacks = [attack] if self.config.attack else []
        return [
            *attacks,
            *(
                RadiusTask(
                    row=replace(row, method=method.label),
                    text=f"sample {sample.index}, {method.label}",
                    kind=method.label,
                    needs=attack.key if attacks else None,
                    sample=sample,
                    method=method,
                )
                for method in self.config.methods
            ),
        ]

    def compute(self, task: RadiusTask, needed: RadiusRow | None) -> Computed[RadiusRow]:
        config, network, sample = self.config, self.network, task.sample
        row = replace(task.row, predicted=self.question.of(sample.label).answer(network, sample.x))
        reason = self.question.mismatch(network, sample.x, sample.label, sample.target)
        if reason is not None:
            certified = None if task.method is None else 0.0
            return Computed(replace(row, certified=certified, attacked=0.0, misclassified=True, reason=reason))
        found = radius(
            network,
            partial(self.region, sample),
            self.claim_of(sample),
            None if task.method is None else task.method.method,
            largest=config.largest,
            tolerance=config.tolerance,
            epsilons=self.epsilons,
            bisect=config.bisect,
            attack=config.attack,
            attacked=None if needed is None else needed.attacked or math.inf,
            timeout_s=config.timeout_s,
            strict=config.strict,
            runtime=runtime_of(network),
        )
        row = _filled(row, found)
        if task.method is None:
            row = replace(row, certified=None)
        if found.counterexample is None:
            return Computed(replace(row, counterexample=None if needed is None else needed.counterexample))
        name = file_name("counterexamples", row.key, "npy")
        return Computed(replace(row, counterexample=name), {name: array_file(found.counterexample.cpu().numpy())})

    def report(self, folder: Folder, rows: Sequence[RadiusRow], console: Console) -> None:
        from kreludomain.run.radius.plots import accuracy_figure  # matplotlib: imports for a second, and only here

        methods = [method.label for method in self.config.methods]
        curves, summaries = accuracy(methods, rows), self._summaries(rows)
        console.print(summary_table(summaries, curves.attacked, self.epsilons))
        console.print(samples_table(rows, methods))
        folder.write_all(csv_files(methods, rows))
        norm = norm_name(self.config.region.norm)
        label = "multiple of each entry's epsilon" if self.is_scaled else f"epsilon ($\\ell_{{{norm}}}$)"
        folder.write_all(accuracy_figure(curves, label, self.epsilons))

    def _summaries(self, rows: Sequence[RadiusRow]) -> list[Summary]:
        methods = [method.label for method in self.config.methods]
        return summarise(methods, rows, self.epsilons, self.config.tolerance)

    def summary(self, rows: Sequence[RadiusRow]) -> Mapping[str, Any]:
        return {"samples": len(self.samples), "methods": [dataclasses.asdict(each) for each in self._summaries(rows)]}

    def closing(self, rows: Sequence[RadiusRow]) -> str:
        return f"{len(self.samples)} samples, {len(rows)} rows"

    def problems(self, folder: Folder, rows: Sequence[RadiusRow]) -> Sequence[str]:
        found = contradictions(rows)
        return [f"bounds contradict each other, which is a bug: {'; '.join(found)}"] if found else []


def _filled(row: RadiusRow, found: Radius) -> RadiusRow:
    """The row with what a search has found."""
    return replace(
        row,
        certified=found.certified,
        attacked=finite(found.attacked),
        calls=len(found.trials),
        attacks=found.attacks,
        seconds=found.seconds,
        reason=found.reason,
        notes=found.notes,
        trials=tuple((trial.epsilon, trial.verdict.value, finite(trial.margin)) for trial in found.trials),
    )
