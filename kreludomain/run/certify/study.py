"""The studies ``certify`` and ``compare``: every sample meets every method."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, cast

from pydantic import model_validator
from rich.console import Console

from kreludomain.data import Sample
from kreludomain.data.keys import DataKeys
from kreludomain.network import Network, Runtime
from kreludomain.options import wrong
from kreludomain.property import Claim, Equivalent, Monotonicity, Question, Robust
from kreludomain.run.certify.rows import (
    CertifyRow,
    certified_accuracy,
    csv_files,
    joint_gains,
    margins_table,
    summarise,
    summary_table,
    widths_table,
)
from kreludomain.run.config.box import BoxConfig, RegionItem
from kreludomain.run.config.data import load_samples
from kreludomain.run.config.files import ConfigFile, Data, RunKeys
from kreludomain.run.config.methods import AttackItem, Methods, NamedMethod, try_methods
from kreludomain.run.config.networks import NetworkFile, NetworkItem, NetworkPair, load_difference
from kreludomain.run.config.questions import QuestionItem
from kreludomain.run.config.region import Surroundings
from kreludomain.run.engine.folder import Folder, array_file, file_name
from kreludomain.run.engine.record import network_hash, samples_hash
from kreludomain.run.engine.study import Computed, ConfigPath, Study, Task
from kreludomain.run.engine.worker import Failure, Kind
from kreludomain.run.output.tables import finite
from kreludomain.verify import Verdict, certify


class CertifyConfig(RunKeys):
    """A configuration file of ``kreludomain certify`` and ``kreludomain compare``; a row is a sample and a method, and
    an epsilon where there are several.

    ``region``: around each sample of ``data``, or one ``box`` without data, whose middle then stands for a sample.
    ``networks``, two in place of one, are compared: the claim is then by how much they may differ (``equivalent``).
    ``claim``: what is asked of every sample (:data:`QUESTIONS`); that its label is the class, where it is not given.
    ``attack``: whether counterexamples are looked for, or the options of the search. ``tight``: bounds as good as the
    method can, also of what is proved already.
    ``strict``: counterexamples lie exactly inside the region, as in :func:`kreludomain.certify`.
    """

    network: NetworkItem | None = None
    networks: NetworkPair | None = None
    data: Data | None = None
    region: RegionItem
    claim: QuestionItem = Robust()
    methods: Methods
    attack: AttackItem = True
    tight: bool = False
    strict: bool = False

    @model_validator(mode="after")
    def _one_network_or_two(self) -> CertifyConfig:
        if self.network is None and self.networks is None:
            raise wrong({("network",): "missing; of two that are compared, networks: [a.onnx, b.onnx]"})
        if self.network is not None and self.networks is not None:
            raise wrong({("networks",): "give network or networks, not both"})
        if (self.networks is None) == isinstance(self.claim, Equivalent):
            of_two = "of two networks it is how far they may differ, as in {equivalent: 0.01}"
            of_one = "equivalent is asked of two networks, as in networks: [a.onnx, b.onnx]"
            raise wrong({("claim",): of_one if self.networks is None else of_two})
        return self

    @model_validator(mode="after")
    def _data_or_box(self) -> CertifyConfig:
        is_box = isinstance(self.region, BoxConfig)
        if self.data is None and not is_box:
            raise wrong({("data",): "missing; of a box of inputs, region: {box: [low, high]}, there is none"})
        if self.data is not None and is_box:
            raise wrong({("data",): "region.box is about no samples; leave data out"})
        return self

    @property
    def network_words(self) -> str:
        """The files of the network, or of the two that are compared."""
        return " and ".join(each.words for each in (self.network, *(self.networks or ())) if each is not None)

    def load_network(self, file: ConfigFile[CertifyConfig]) -> Network:
        """The network, or the difference of the two."""
        if self.networks is not None:
            return load_difference(file, self.networks)
        return cast(NetworkFile, self.network).load(file)

    def samples(self, file: ConfigFile[CertifyConfig], network: Network) -> tuple[Sample, ...]:
        """The samples of the data, or the middle of the box."""
        if isinstance(self.region, BoxConfig):
            with file.named():
                return (self.region.middle(file.path, network),)
        return load_samples(file, cast(DataKeys, self.data), network)


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleTask(Task[CertifyRow]):
    """A sample and the method that is to decide the claim around it."""

    sample: Sample
    method: NamedMethod


@dataclass(frozen=True, eq=False)
class Certify(Study[CertifyConfig, SampleTask, CertifyRow]):
    """``kreludomain certify``."""

    name = "certify"
    help = "Decide a claim for every sample with every method of CONFIG."
    config_model = CertifyConfig
    row_type = CertifyRow
    files = (
        "counterexamples/*.npy",
        "comparison.*",
        "certified_accuracy.*",
        "margins.csv",
        "widths.csv",
        "report.html",
        "report_*.csv",
    )
    outcomes = (Verdict.VERIFIED.value, Verdict.FALSIFIED.value, Verdict.UNKNOWN.value)

    config: CertifyConfig
    network: Network
    samples: tuple[Sample, ...]
    question: Question
    around: Surroundings

    @classmethod
    def prepare(cls, file: ConfigFile[CertifyConfig]) -> Certify:
        config = file.config
        network = config.load_network(file)
        samples = config.samples(file, network)
        with file.named("claim"):
            question = config.claim.named(samples[0].names)
        with file.named():
            around = config.region.surroundings(file.path, network, config.data, samples)
        study = cls(config, network, samples, question, around)
        study.check(file.named)
        try_methods(file, config.region.norm, config.methods)
        return study

    def check(self, named: Callable[[str], AbstractContextManager[None]]) -> None:
        """Raises :class:`InputError` for a sample whose region or claim does not fit; ``named`` says which it is."""
        for sample in self.samples:
            with named(f"sample {sample.index}"):
                for epsilon in self.around.epsilons:
                    self.around.region(sample, epsilon).fit(self.network)
                self.claim_of(sample).require_fit(self.network)

    def claim_of(self, sample: Sample) -> Claim | Monotonicity:
        """The claim about a sample."""
        return self.question.claim(self.network, sample.label, sample.target)

    def notes(self) -> Sequence[str]:
        return self.network.notes

    def contents(self) -> Mapping[str, str]:
        return {"network": network_hash(self.network), "data": samples_hash(self.samples), **self.around.contents()}

    def tasks(self) -> Sequence[SampleTask]:
        return [
            SampleTask(
                row=(row := self._row(sample, method, epsilon)),
                text=f"sample {sample.index}, {row.series}",
                kind=row.series,
                sample=sample,
                method=method,
            )
            for sample in self.samples
            for epsilon in self.around.epsilons
            for method in self.config.methods
        ]

    def compute(self, task: SampleTask, needed: CertifyRow | None) -> Computed[CertifyRow]:
        row, sample, config, network = self._answered(task), task.sample, self.config, self.network
        reason = self.question.mismatch(network, sample.x, sample.label, sample.target)
        if reason is not None:
            return Computed(replace(row, verdict=Verdict.MISCLASSIFIED, reason=reason))
        claim = self.claim_of(sample)
        found = certify(
            network,
            self.around.region(sample, row.epsilon),
            claim,
            task.method.method,
            timeout_s=config.timeout_s,
            attack=config.attack,
            tight=config.tight,
            strict=config.strict,
            runtime=runtime_of(network),
        )
        bounds = tuple(map(finite, found.lower_bounds.tolist()))
        row = replace(
            row,
            verdict=found.verdict,
            lower_bounds=bounds,
            margin=None if None in bounds else claim.margin(found.lower_bounds),
            seconds=found.seconds,
            reason=found.reason,
            notes=found.notes,
            widths={name: finite(float(found.bounds[name].width.mean())) for name in reported_layers(network)},
            stages={name: round(seconds, 6) for name, seconds in found.stages.items()},
        )
        if found.counterexample is None:
            return Computed(row)
        name = file_name("counterexamples", row.key, "npy")
        return Computed(replace(row, counterexample=name), {name: array_file(found.counterexample.cpu().numpy())})

    def failed(self, task: SampleTask, failure: Failure) -> CertifyRow:
        verdict = Verdict.TIMEOUT if failure.kind == Kind.TIMEOUT else Verdict.ERROR
        return replace(super().failed(task, failure), predicted=self._answered(task).predicted, verdict=verdict)

    def _row(self, sample: Sample, method: NamedMethod, epsilon: float | None) -> CertifyRow:
        asked = self.config.claim.of(sample.label, sample.name)
        said = asked.words(sample.name or str(sample.label), f"{sample.target:g}" if sample.target is not None else "")
        row = CertifyRow(sample.index, sample.label, None, method.label)
        return replace(row, name=sample.name, target=sample.target, claim=said, epsilon=epsilon)

    def _answered(self, task: SampleTask) -> CertifyRow:
        """The task's row with the network's own answer at the sample."""
        question = self.question.of(task.sample.label)
        return replace(task.row, predicted=question.answer(self.network, task.sample.x))

    def report(self, folder: Folder, rows: Sequence[CertifyRow], console: Console) -> None:
        methods = self.config.methods
        console.print(summary_table(summarise(methods, rows), self.config.tight))
        gains = joint_gains(methods, rows)
        if gains is not None:
            console.print(gains, soft_wrap=True)
        curves = certified_accuracy(rows)
        if curves:
            from kreludomain.run.certify.plots import accuracy_figure  # matplotlib: imports for a second, and only here

            folder.write_all(accuracy_figure(curves))

    def summary(self, rows: Sequence[CertifyRow]) -> Mapping[str, Any]:
        methods = [dataclasses.asdict(summary) for summary in summarise(self.config.methods, rows)]
        return {"samples": len(self.samples), "methods": methods}

    def closing(self, rows: Sequence[CertifyRow]) -> str:
        return f"{len(self.samples)} samples, {len(rows)} rows"


class Compare(Certify):
    """``kreludomain compare``: :class:`Certify`, and margins, widths and seconds side by side.

    Margins are made to be compared: each method's best, not the first that is positive.
    """

    name = "compare"
    help = "Certify, and show margins, widths and seconds of the methods side by side."

    @classmethod
    def load(cls, config: ConfigPath) -> ConfigFile[CertifyConfig]:
        file = super().load(config)
        return replace(file, config=file.config.model_copy(update={"tight": True}))

    def report(self, folder: Folder, rows: Sequence[CertifyRow], console: Console) -> None:
        from kreludomain.run.certify.plots import comparison  # matplotlib: imports for a second, and only here

        super().report(folder, rows, console)
        summaries = summarise(self.config.methods, rows)
        folder.write_all(csv_files(summaries, rows))
        quantity = self.question.quantity
        folder.write_all(comparison(summaries, rows, quantity))
        console.print(margins_table(rows, [s.series for s in summaries], quantity=quantity))
        console.print(widths_table(summaries))


@functools.lru_cache(maxsize=1)
def runtime_of(network: Network) -> Runtime:
    """The onnxruntime session of a worker's network; sessions cannot be sent to workers."""
    return Runtime(network)


def reported_layers(network: Network) -> tuple[str, ...]:
    """The nodes that reports are about: pre-activations, and the output."""
    return tuple(dict.fromkeys((*network.pre_activations, network.output.name)))
