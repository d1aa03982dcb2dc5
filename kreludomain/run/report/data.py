"""The content of a report as data: runs read from their folders, side by side, and the samples worth a look."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.property.names import NO_NAMES, Names
from kreludomain.run.certify.rows import CertifyRow, Summary, in_order, summarise
from kreludomain.run.certify.study import Certify, CertifyConfig
from kreludomain.run.config.files import ConfigFile, load_config
from kreludomain.run.config.methods import NamedMethod
from kreludomain.run.engine.folder import CONFIG, ROWS, read_rows
from kreludomain.run.engine.record import Record
from kreludomain.verify import Verdict

LOG = logging.getLogger(__name__)

OPEN, SOLVED = (Verdict.UNKNOWN, Verdict.TIMEOUT), (Verdict.VERIFIED, Verdict.FALSIFIED)

#: How many samples a list shows.
MOST_NOTABLE, MOST_FALSIFIED, MOST_MARGINS = 8, 12, 40


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A run, read from its folder. ``study`` is ``None`` where network or data are gone or changed: ``why`` says so."""

    name: str
    file: ConfigFile[CertifyConfig]
    record: Record
    rows: tuple[CertifyRow, ...]
    methods: tuple[NamedMethod, ...]
    study: Certify | None
    why: str = ""

    @property
    def quantity(self) -> str:
        """What the margins of its rows are lower bounds of."""
        return self.file.config.claim.quantity

    @property
    def summaries(self) -> list[Summary]:
        return summarise(self.methods, self.rows)

    @property
    def names(self) -> Names:
        """What the data calls its features and classes, where it is there."""
        samples = () if self.study is None else self.study.samples
        return samples[0].names if samples else NO_NAMES

    def _network_words(self) -> str:
        name, study = self.file.config.network_words, self.study
        if study is None:
            return name
        return "; ".join((f"{name} ({_network(study.network)})", *study.notes()))

    def words(self) -> dict[str, str]:
        """The question, the machine and the versions: a text for each heading."""
        config = self.file.config
        names = [method.label.removeprefix(f"{self.name}: ") for method in self.methods]
        machine = ", ".join(f"{v} cores" if k == "cores" else str(v) for k, v in self.record.machine.items())
        return {
            "Network": self._network_words(),
            "Samples": _samples(config, self.rows),
            "Region": config.region.words,
            "Claim": f"everywhere in the region: {config.claim.words()}",
            "Methods": "; ".join(names),
            "Limits": _limits(config),
            "Margins": _margins(config),
            "Machine": machine or "not recorded",
            "Versions": ", ".join(f"{name} {version}" for name, version in config.versions.items()),
        }


@dataclass(frozen=True, eq=False)
class NotableSample:
    """A sample worth a look: the row that makes it so, and the input ``(*input_shape)``."""

    run: FinishedRun
    row: CertifyRow
    x: np.ndarray | None


@dataclass(frozen=True, eq=False)
class FalsifiedSample(NotableSample):
    """A falsified sample: the input before, the counterexample ``(*input_shape)``, and the network's answers to both.

    Before is the sample, or, of a claim about pairs of inputs, the first of the pair.
    """

    before: np.ndarray | None = None
    found: np.ndarray | None = None
    answers: tuple[float | None, float | None] = (None, None)


def read_runs(folders: Sequence[Path]) -> list[FinishedRun]:
    """The runs of folders. Raises :class:`InputError` that names what is no finished row, configuration or record."""
    names = _names(folders)
    return [_finished_run(folder, name, len(folders) > 1) for folder, name in zip(folders, names, strict=True)]


def every_row(runs: Iterable[FinishedRun]) -> list[CertifyRow]:
    """The rows of all runs, run by run."""
    return [row for run in runs for row in run.rows]


def closest(runs: Iterable[FinishedRun]) -> list[NotableSample]:
    """Samples that every method of a run leaves open, nearest to zero first; each once, by its best margin."""
    rows = []
    for run in runs:
        solved = {(row.index, row.epsilon) for row in run.rows if row.verdict in SOLVED}
        left = (row for row in run.rows if row.verdict in OPEN and (row.index, row.epsilon) not in solved)
        rows += [(run, row) for row in left if row.margin is not None]
    return _each_once(sorted(rows, key=lambda item: abs(item[1].margin or 0.0)), MOST_NOTABLE)


def longest(runs: Iterable[FinishedRun]) -> list[NotableSample]:
    """Samples by the seconds that they took, the longest first; each once, by its slowest method."""
    rows = [(run, row) for run in runs for row in run.rows if row.verdict != Verdict.MISCLASSIFIED]
    return _each_once(sorted(rows, key=lambda item: -item[1].seconds), MOST_NOTABLE)


def falsified(runs: Iterable[FinishedRun]) -> list[FalsifiedSample]:
    """Falsified samples in their order, each once a run."""
    rows = [(run, row) for run in runs for row in run.rows if row.verdict == Verdict.FALSIFIED]
    return [_falsified_sample(sample) for sample in _each_once(rows, len(rows))]


def _finished_run(folder: Path, name: str, several: bool) -> FinishedRun:
    if not (folder / ROWS).exists():
        raise InputError(f"{folder / ROWS}: no such file; a report is about the folder of certify or compare")
    file = load_config(folder / CONFIG, CertifyConfig)
    record = Record.read(folder)
    try:
        rows = in_order(map(Certify.read_row, read_rows(folder / ROWS)[0]), file.config.methods)
    except (ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder / ROWS}: not the rows of certify or compare ({reason})") from None
    study, why = _loaded(file, record)
    prefix = f"{name}: " if several else ""
    methods = tuple(replace(method, label=prefix + method.label) for method in file.config.methods)
    rows = [replace(row, method=prefix + row.method) for row in rows]
    return FinishedRun(name, file, record, tuple(rows), methods, study, why)


def _loaded(file: ConfigFile[CertifyConfig], record: Record) -> tuple[Certify | None, str]:
    """The run's network and samples if they are as they were, else the reason."""
    try:
        study = Certify.prepare(file)
    except (InputError, OSError) as error:
        return None, str(error)
    changed = Record(record.command, {}, study.contents()).changed_contents(record)
    return (None, f"the {' and the '.join(changed)} changed since the run") if changed else (study, "")


def _names(folders: Sequence[Path]) -> list[str]:
    """Each folder by its own name, or by as much of its path as it takes to tell it from the others."""
    paths = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, paths)) + 1):
        names = ["/".join(parts[-length:]) for parts in paths]
        if len(set(names)) == len(names):
            return names
    raise InputError(f"{folders[0]}: given twice")


def _each_once(rows: Iterable[tuple[FinishedRun, CertifyRow]], most: int) -> list[NotableSample]:
    found: dict[tuple[str, int], NotableSample] = {}
    for run, row in rows:
        found.setdefault((run.name, row.index), NotableSample(run, row, _input(run, row)))
        if len(found) == most:
            break
    return list(found.values())


def _input(run: FinishedRun, row: CertifyRow) -> np.ndarray | None:
    """The input of a row's sample, in the units of the data."""
    study = run.study
    samples = () if study is None else study.samples
    x = next((sample.x for sample in samples if sample.index == row.index), None)
    return None if x is None or study is None else study.around.normalise.undone(x).numpy()


def _falsified_sample(sample: NotableSample) -> FalsifiedSample:
    run, row = sample.run, sample.row
    path = run.file.source.parent / (row.counterexample or "")
    if row.counterexample is None or not path.is_file():
        return FalsifiedSample(run, row, sample.x)
    found = np.load(path)
    if run.study is None or sample.x is None:
        return FalsifiedSample(run, row, sample.x, sample.x, found)
    network, undone = run.study.network, run.study.around.normalise.undone
    question, is_pair = run.study.question.of(row.label, row.name), found.ndim > len(network.input.shape)
    before, after = found if is_pair else (None, found)
    first = row.predicted if before is None else question.answer(network, torch.from_numpy(before))
    answers = first, question.answer(network, torch.from_numpy(after))
    shown = sample.x if before is None else undone(before).numpy()
    return FalsifiedSample(run, row, sample.x, shown, undone(after).numpy(), answers)


def _network(network: Network) -> str:
    relus = sum(network.size(name) for name in network.pre_activations)
    shape = " x ".join(map(str, network.input.shape))
    return f"{shape} inputs, {relus:,} activations, {network.size(network.output.name)} outputs"


def _samples(config: CertifyConfig, rows: Sequence[CertifyRow]) -> str:
    if config.data is None:
        return "none: one box of inputs, of which the middle is shown"
    return f"{len({row.index for row in rows})} of {config.data.source}, from {config.data.first}"


def _margins(config: CertifyConfig) -> str:
    if config.claim.quantity != "margin":
        return f"each method's lower bound of the {config.claim.quantity}"
    return "each method's best" if config.tight else "a proof stops at its first positive bound"


def _limits(config: CertifyConfig) -> str:
    seconds = "no time limit" if config.timeout_s is None else f"{config.timeout_s:g} s"
    memory = "no memory limit" if config.memory_mb is None else f"{config.memory_mb} MB"
    return f"{seconds}, {memory} for a sample and method"


def as_image(x: np.ndarray, layout: str | None = "chw") -> np.ndarray | None:
    """An input as an image ``(height, width, channels)`` with 1 or 3 channels, or ``None`` if it is none.

    ``layout``: how it lies, ``chw`` or ``hwc``; ``None`` if that is not known. A flat input is taken for a square image
    if it has the right length and is at least 7 x 7.
    """
    sizes = [size for size in x.shape if size != 1]
    if len(sizes) == 2:
        return x.reshape(*sizes, 1)
    if len(sizes) == 3 and layout is not None:
        image = x.reshape(sizes) if layout == "hwc" else np.moveaxis(x.reshape(sizes), 0, 2)
        return image if image.shape[2] == 3 else None
    for channels in (1, 3):
        side = math.isqrt(x.size // channels)
        if len(sizes) == 1 and side >= 7 and side * side * channels == x.size:
            if layout == "hwc":
                return x.reshape(side, side, channels)
            return np.moveaxis(x.reshape(channels, side, side), 0, 2)
    return None
