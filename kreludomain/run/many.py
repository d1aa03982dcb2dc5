"""Many samples from Python: the studies ``certify`` and ``compare`` without a file, by worker processes."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from torch import Tensor

from kreludomain.attack import Attack
from kreludomain.data import Entries, Sample
from kreludomain.data import samples as read_samples
from kreludomain.domain import Method
from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.property import Claim, Monotonicity, Normalisation, Question, Region, Robust, ball
from kreludomain.property.around import Numbers, norm_name, number
from kreludomain.run.certify.rows import CertifyRow, Summary, csv_files, margins_table, summarise, summary_table
from kreludomain.run.certify.study import Certify, CertifyConfig
from kreludomain.run.config.methods import NamedMethod, named_method
from kreludomain.run.config.region import Surroundings
from kreludomain.run.engine.folder import Folder
from kreludomain.run.engine.runner import Run
from kreludomain.run.engine.worker import HAS_MEMORY_LIMIT, warm_up
from kreludomain.run.output.tables import as_text
from kreludomain.verify import METHODS, try_on

if TYPE_CHECKING:
    import pandas

#: What a method can be given as: its name, an object, or a name with options as in YAML.
MethodLike = str | Method | Mapping[str, Any]
#: The columns of a data frame: the fields of a row but for those of its layers and stages.
COLUMNS = (
    *("index", "label", "name", "target", "predicted", "method", "epsilon", "verdict", "margin", "lower_bounds"),
    *("seconds", "reason", "notes", "claim"),
)

#: Called with each row as it comes: how many there are by then, how many there will be, and the row.
Progress = Callable[[int, int, CertifyRow], None]


@dataclass(frozen=True, eq=False)
class Results(Sequence[CertifyRow]):
    """The rows of many samples and methods, sample by sample, as a sequence; its text is a table of the methods.

    Fields of a row: ``index``, ``label``, ``predicted``, ``method``, ``verdict``, ``margin``, ``lower_bounds``,
    ``seconds``, ``reason``, ``notes``, ``epsilon`` (where there are several), ...
    """

    rows: tuple[CertifyRow, ...]
    methods: tuple[NamedMethod, ...] = field(repr=False)
    tight: bool = False
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @overload
    def __getitem__(self, position: int) -> CertifyRow: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[CertifyRow, ...]: ...
    def __getitem__(self, position: int | slice) -> CertifyRow | tuple[CertifyRow, ...]:
        return self.rows[position]

    def __len__(self) -> int:
        return len(self.rows)

    def counterexample(self, row: CertifyRow) -> Tensor | None:
        """The counterexample ``(*input_shape)`` of a row, in the network's own type; ``None`` if it has none."""
        if row.counterexample is None:
            return None
        return torch.from_numpy(np.load(io.BytesIO(self.files[row.counterexample]), allow_pickle=False))

    def summary(self) -> tuple[Summary, ...]:
        """Counts of verdicts, margins and seconds, a method each, and an epsilon where there are several."""
        return tuple(summarise(self.methods, self.rows))

    def to_pandas(self) -> pandas.DataFrame:
        """A data frame, a row a sample and method. Raises :class:`InputError` where pandas is not installed."""
        try:
            import pandas
        except ImportError:
            raise InputError("to_pandas: pandas is not installed; pip install pandas") from None
        return pandas.DataFrame([{name: getattr(row, name) for name in COLUMNS} for row in self.rows])

    def __repr__(self) -> str:
        summaries = self.summary()
        texts = [as_text(summary_table(summaries, self.tight))]
        if self.tight:
            texts.append(as_text(margins_table(self.rows, [summary.series for summary in summaries])))
        samples = len({row.index for row in self.rows})
        return "\n".join([*texts, f"{samples} samples, {len(self.rows)} rows"])


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, with what there is by then: ``results``."""

    def __init__(self, results: Results, total: int) -> None:
        super().__init__(f"stopped: {len(results)} of {total} rows are in the exception's .results")
        self.results = results


def certify_many(
    network: Network,
    samples: Any,
    epsilon: Numbers | None = None,
    claim: Question | Claim = Robust(),
    methods: MethodLike | Sequence[MethodLike] | Mapping[str, MethodLike] = "krelu",
    *,
    epsilons: Sequence[float | str] | None = None,
    region: Callable[[Sample], Region] | None = None,
    norm: str | float = "inf",
    clip: tuple[Numbers, Numbers] | None = None,
    fixed: Sequence[int] | Tensor | np.ndarray | None = None,
    mask: Tensor | np.ndarray | Sequence[Any] | None = None,
    normalise: Normalisation | None = None,
    attack: bool | Attack = True,
    tight: bool = False,
    strict: bool = False,
    timeout_s: float | None = None,
    grace_s: float = 10.0,
    memory_mb: int | None = None,
    workers: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    output: str | Path | None = None,
) -> Results:
    """Every sample meets every method, as in ``kreludomain certify``: worker processes, with hard limits.

    ``samples`` are those of :func:`kreludomain.samples`, or what that takes without more keys: inputs, a pair of inputs
    and labels, a data set, ... The regions are balls of ``epsilon`` around them, in ``norm`` and so on as in
    ``kd.ball``; of each sample's own epsilon if none is given; of several in turn (``epsilons``); or what a function
    ``region`` makes of a sample. ``claim``: a question that is asked of every sample (``Robust()``, ``TopK(3)``,
    ``Within(0.5)``, ...), or one claim for all. ``methods``: one or several names, objects, or mappings as in YAML; or
    a mapping from labels to these.

    ``timeout_s``, ``grace_s``, ``memory_mb`` (for a row), ``workers`` and ``threads`` are as in a configuration; a row
    that breaks a limit, crashes or raises has the verdict ``timeout`` or ``error``, and the others go on. ``progress``
    is called with each row as it comes: ``progress(done, total, row)``. ``output``: a folder that keeps the rows as
    they come (``results.jsonl``), counterexamples and tables. The others are as in :func:`certify`.

    Scripts need no ``if __name__ == "__main__"``: workers do not import them. Own methods, questions and regions, also
    those of a notebook, are sent to the workers by value. Raises :class:`InputError` before anything is computed, and
    :class:`Interrupted`, which has the rows so far, at Ctrl-C.
    """
    named = _named_methods(methods)
    config = CertifyConfig.model_construct(
        claim=claim if isinstance(claim, Question) else _Given(claim),
        methods=named,
        attack=attack,
        tight=tight,
        strict=strict,
        timeout_s=_above_zero("timeout_s", timeout_s),
        grace_s=grace_s,
        memory_mb=_above_zero("memory_mb", memory_mb),
        workers=_above_zero("workers", workers),
        threads=_above_zero("threads", threads),
    )
    if memory_mb is not None and not HAS_MEMORY_LIMIT:
        raise InputError("memory_mb: only Linux can limit memory")
    entries = {"norm": norm, "clip": clip, "fixed": fixed, "mask": mask, "normalise": normalise}
    if sum(each is not None for each in (epsilon, epsilons, region)) > 1:
        raise InputError("epsilon: give one of epsilon, epsilons and region")
    make = partial(_ball, epsilon, entries) if region is None else partial(_made, region)
    none = torch.zeros((), dtype=torch.bool)
    around = _Regions(
        norm_name(norm), Entries(network), _numbers(epsilons), None, Normalisation.none(), None, none, make=make
    )
    found = _samples(samples, network)
    with _where("claim"):
        question = config.claim.named(found[0].names)
    study = Certify(config, network, found, question, around)
    study.check(_where)
    for position, method in enumerate(named):
        with _where(f"methods[{position}]"):
            try_on(method.method, ball(torch.zeros(2, dtype=torch.float64), 0.1, norm))
    return _run(study, progress, None if output is None else Path(output))


def compare(network: Network, samples: Any, epsilon: Numbers | None = None, **options: Any) -> Results:
    """As :func:`certify_many`, whose ``options`` it takes, with margins that can be compared: each method's best.

    The text of the results has the margins side by side. As in ``kreludomain compare``.
    """
    if "tight" in options:
        raise InputError("tight: compare always is; certify_many takes it")
    return certify_many(network, samples, epsilon, tight=True, **options)


def _run(study: Certify, progress: Progress | None, output: Path | None) -> Results:
    kept = _Kept(None if output is None else Folder(output, False, study.files))
    run = Run(study, kept)
    with contextlib.ExitStack() as stack:
        stack.callback(kept.close)
        try:
            warm_up(Certify.__module__, by_value=True)
            with run.pool(study.config, by_value=True) as pool:
                for row in run.compute(pool):
                    if progress is not None:
                        progress(len(run.rows), run.size, row)
        except KeyboardInterrupt:
            raise Interrupted(_results(study, run, kept), run.size) from None
        results = _results(study, run, kept)
        if kept.folder is not None:
            kept.folder.write_all(csv_files(results.summary(), results.rows))
        return results


def _results(study: Certify, run: Run[Any, Any, CertifyRow], kept: _Kept) -> Results:
    return Results(tuple(run.in_order()), study.config.methods, study.config.tight, kept.files)


@dataclass(eq=False)
class _Kept:
    """Rows and files of a run in memory, and in a folder if there is one."""

    folder: Folder | None
    files: dict[str, bytes] = field(default_factory=dict)

    def write_all(self, files: Mapping[str, bytes]) -> None:
        self.files |= files
        if self.folder is not None:
            self.folder.write_all(files)

    def append(self, row: CertifyRow) -> None:
        if self.folder is not None:
            self.folder.append(row)

    def close(self) -> None:
        if self.folder is not None:
            self.folder.close()


@dataclass(frozen=True)
class _Given(Question):
    """One claim for all samples."""

    given: Claim | Monotonicity

    def claim(self, network: Network, label: int | None = None, target: Any = None) -> Claim | Monotonicity:
        return self.given

    def words(self, label: str = "", target: str = "") -> str:
        return "the claim that is given"


@dataclass(frozen=True, eq=False, kw_only=True)
class _Regions(Surroundings):
    """The regions around samples that a function makes, of a sample and an epsilon."""

    make: Callable[[Sample, Tensor | float | None], Region]

    def region(self, sample: Sample, epsilon: Tensor | float | None = None) -> Region:
        return self.make(sample, epsilon)


def _ball(common: Numbers | None, entries: Mapping[str, Any], sample: Sample, epsilon: Tensor | float | None) -> Region:
    found = next((each for each in (epsilon, common, sample.epsilon) if each is not None), None)
    if found is None:
        raise InputError("epsilon: missing; give epsilon, epsilons or region, or samples with one of their own")
    return ball(sample.x, found, **entries)


def _made(make: Callable[[Sample], Region], sample: Sample, epsilon: Tensor | float | None) -> Region:
    made = make(sample)
    if not isinstance(made, Region):
        raise InputError(f"region: gives {type(made).__name__}, a region is expected")
    return made


def _samples(given: Any, network: Network) -> tuple[Sample, ...]:
    if isinstance(given, Sequence) and given and all(isinstance(each, Sample) for each in given):
        return tuple(given)
    return read_samples(given, network)


def _named_methods(given: Any) -> tuple[NamedMethod, ...]:
    """Methods with labels that differ: two of one name are told apart by their numbers."""
    if isinstance(given, Mapping) and "name" not in given:
        pairs = [(str(label), method) for label, method in given.items()]
    else:
        several = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
        pairs = [("", method) for method in several]
    if not pairs:
        raise InputError("methods: should have at least one item")
    found: list[NamedMethod] = []
    for position, (label, method) in enumerate(pairs):
        named = _named(method, f"methods[{position}]")
        labels = {each.label for each in found}
        own = label or named.label
        number = next(n for n in range(1, len(pairs) + 1) if (own if n == 1 else f"{own} ({n})") not in labels)
        found.append(NamedMethod(named.name, own if number == 1 else f"{own} ({number})", named.method, named.options))
    return tuple(found)


def _named(method: Any, where: str) -> NamedMethod:
    if not isinstance(method, Method):
        return named_method(method, where)
    name = next((name for name, kind in METHODS.items() if type(method) is kind), type(method).__name__)
    return NamedMethod(name, name, method, {})


def _numbers(epsilons: Sequence[float | str] | None) -> tuple[float | None, ...]:
    if epsilons is None:
        return (None,)
    try:
        return tuple(dict.fromkeys(map(number, epsilons))) or (None,)
    except InputError as error:
        raise InputError(f"epsilons: {error}") from None


def _above_zero(name: str, value: Any) -> Any:
    if value is not None and not value > 0:
        raise InputError(f"{name}: {value!r} is not a number above 0")
    return value


@contextlib.contextmanager
def _where(place: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error}") from None
