"""The rows of ``certify`` and ``compare``, their statistics by method, and their tables on screen and as CSV."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.table import Table

from kreludomain.run.config.methods import NamedMethod
from kreludomain.run.engine.study import Key, Row
from kreludomain.run.output.tables import csv_text, mean, median, plain_table, shown
from kreludomain.verify import Verdict


@dataclass(frozen=True)
class CertifyRow(Row):
    """A method's verdict on a sample. Numbers that are not finite are ``None``.

    ``index`` is the sample's position in the data, ``label`` its class (``name``: in the data's own words), ``target``
    the value to regress on, each ``None`` where the data has none. ``predicted`` is the network's class or, where the
    claim is about the value of its only output, that value; ``claim`` says what was to hold. ``method`` is the method's
    label, ``lower_bounds`` has one bound a row of the claim (``None`` where no method ran), ``margin`` is that of the
    worst clause, ``reason`` says why it stopped, ``counterexample`` is a file in the folder, ``widths`` has the mean
    width of the bounds of each layer by its name (nothing where no method ran), ``stages`` the seconds that went into
    each stage of the method. ``epsilon`` is there in runs of several.
    """

    identity = ("index", "method")

    index: int
    label: int | None
    predicted: int | float | None
    method: str
    verdict: Verdict = Verdict.UNKNOWN
    lower_bounds: tuple[float | None, ...] | None = None
    margin: float | None = None
    seconds: float = 0.0
    reason: str = ""
    notes: tuple[str, ...] = ()
    counterexample: str | None = None
    widths: Mapping[str, float | None] = field(default_factory=dict)
    stages: Mapping[str, float] = field(default_factory=dict)
    name: str | None = None
    target: float | None = None
    claim: str = ""
    epsilon: float | None = None

    @property
    def key(self) -> Key:
        return super().key if self.epsilon is None else (*super().key, self.epsilon)

    @property
    def series(self) -> str:
        """The name of the rows that are summed up together: the method and, where there are several, the epsilon."""
        return _series(self.method, self.epsilon)

    @property
    def outcome(self) -> str:
        return self.verdict.value

    @property
    def label_text(self) -> str:
        """The label in tables, by its name where it has one; without a label, the target."""
        if self.label is None:
            return shown(self.target)
        return str(self.label) if self.name is None else self.name

    @property
    def margin_text(self) -> str:
        """The margin in tables; where there is none, the verdict."""
        return self.verdict.value if self.margin is None else shown(self.margin)


@dataclass(frozen=True)
class Summary:
    """One method over all samples, in a run of several epsilons for one of them; a statistic of nothing is ``None``.

    ``widths``: each layer's mean width, over the samples that have bounds.
    """

    method: str
    verdicts: Mapping[Verdict, int]
    median_margin: float | None
    mean_margin: float | None
    median_seconds: float | None
    mean_seconds: float | None
    widths: Mapping[str, float]
    epsilon: float | None = None

    @property
    def series(self) -> str:
        """Its name in tables and plots."""
        return _series(self.method, self.epsilon)


def _series(method: str, epsilon: float | None) -> str:
    return method if epsilon is None else f"{method}, epsilon {shown(epsilon)}"


def in_order(rows: Iterable[CertifyRow], methods: Sequence[NamedMethod]) -> list[CertifyRow]:
    """The rows sample by sample, for each the methods in their order: not in the order in which they were finished."""
    position = {method.label: number for number, method in enumerate(methods)}
    return sorted(rows, key=lambda row: (row.index, row.epsilon or 0.0, position[row.method]))


def epsilons(rows: Iterable[CertifyRow]) -> list[float | None]:
    """The epsilons of rows, ascending; ``None`` alone where there is only that of the configuration."""
    return sorted({row.epsilon for row in rows}, key=lambda epsilon: epsilon or 0.0) or [None]


def summarise(methods: Iterable[NamedMethod], rows: Sequence[CertifyRow]) -> list[Summary]:
    """A summary a method and epsilon, in their order. Misclassified samples and errors have no part in margins and
    seconds."""
    return [
        _summary(method.label, epsilon, [row for row in rows if (row.method, row.epsilon) == (method.label, epsilon)])
        for method in methods
        for epsilon in epsilons(rows)
    ]


def certified_accuracy(rows: Sequence[CertifyRow]) -> dict[str, list[tuple[float, float]]]:
    """For each method, and epsilon, the share of samples that it verifies; nothing in a run of one epsilon."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        curves.setdefault(row.method, [])
    for epsilon in epsilons(rows):
        for method, curve in curves.items():
            verdicts = [row.verdict for row in rows if (row.method, row.epsilon) == (method, epsilon)]
            if epsilon is not None and verdicts:
                curve.append((epsilon, verdicts.count(Verdict.VERIFIED) / len(verdicts)))
    return {method: curve for method, curve in curves.items() if curve}


def _summary(method: str, epsilon: float | None, rows: Sequence[CertifyRow]) -> Summary:
    counts = Counter(row.verdict for row in rows)
    margins = [row.margin for row in rows]
    seconds = [row.seconds for row in rows if row.lower_bounds is not None]
    widths: dict[str, list[float]] = {}
    for row in rows:
        for layer, width in row.widths.items():
            if width is not None:
                widths.setdefault(layer, []).append(width)
    return Summary(
        method,
        {verdict: counts[verdict] for verdict in Verdict},
        median(margins),
        mean(margins),
        median(seconds),
        mean(seconds),
        {layer: statistics.fmean(values) for layer, values in widths.items()},
        epsilon,
    )


def joint_gains(methods: Sequence[NamedMethod], rows: Sequence[CertifyRow]) -> str | None:
    """Which samples joint methods verify and no other one does; ``None`` if the run does not have both kinds."""
    joint = [method.label for method in methods if method.is_joint]
    single = [method.label for method in methods if not method.is_joint]
    if not joint or not single:
        return None
    sentences = []
    for epsilon in epsilons(rows):
        verified = {
            label: {
                row.index for row in rows if (row.series, row.verdict) == (_series(label, epsilon), Verdict.VERIFIED)
            }
            for label in (*joint, *single)
        }
        others = set[int]().union(*(verified[label] for label in single))
        gains = {_series(label, epsilon): sorted(verified[label] - others) for label in joint}
        sentences += [_sentence(label, gained) for label, gained in gains.items() if gained]
    return (
        "\n".join(sentences) or "Every sample that a joint method verifies is verified by a single-neuron method too."
    )


def _sentence(label: str, gained: Sequence[int], most: int = 20) -> str:
    names = [str(index) for index in gained[:most]]
    if len(gained) > most:
        names.append(f"{len(gained) - most} more")
    which = "Sample" if len(gained) == 1 else "Samples"
    are = "is" if len(gained) == 1 else "are"
    return f"{which} {_listed(names)} {are} verified by {label} and by no single-neuron method."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def summary_table(summaries: Sequence[Summary], tight: bool) -> Table:
    """A row a method: counts of the verdicts that occur, margins, seconds. ``tight``: margins are the best."""
    occur = [v for v in Verdict if v == Verdict.VERIFIED or any(s.verdicts[v] for s in summaries)]
    table = plain_table("method", *(v.value for v in occur), "median margin", "mean margin", "median s")
    for s in summaries:
        numbers = (s.median_margin, s.mean_margin, s.median_seconds)
        table.add_row(s.series, *(str(s.verdicts[v]) for v in occur), *map(shown, numbers))
    if not tight:
        table.caption = "margins: where a row is proved, its first positive bound; its best with 'tight: true'"
    return table


def margins_table(
    rows: Sequence[CertifyRow], methods: Sequence[str], most: int = 25, quantity: str = "margin"
) -> Table:
    """Margins side by side: a row a sample, a column a method; at most the first ``most`` samples."""
    what = "target" if all(row.label is None for row in rows) else "label"
    table = plain_table("sample", what, *methods, title=f"{quantity}s (smallest lower bound of the claim's rows)")
    by_sample: dict[int, dict[str, CertifyRow]] = {}
    for row in rows:
        by_sample.setdefault(row.index, {})[row.series] = row
    for index, found in list(by_sample.items())[:most]:
        label = next(iter(found.values())).label_text
        table.add_row(str(index), label, *(found[method].margin_text for method in methods))
    if len(by_sample) > most:
        table.caption = f"and {len(by_sample) - most} more in margins.csv"
    return table


def widths_table(summaries: Sequence[Summary]) -> Table:
    """Mean widths: a row a layer, a column a method."""
    table = plain_table("layer", *(s.series for s in summaries), title="mean width of a layer's bounds")
    for layer in all_layers(summaries):
        table.add_row(layer, *(shown(s.widths.get(layer)) for s in summaries))
    return table


def all_layers(summaries: Iterable[Summary]) -> list[str]:
    """The layers that any method has bounds of, in the network's order."""
    return list(dict.fromkeys(layer for summary in summaries for layer in summary.widths))


def csv_files(summaries: Sequence[Summary], rows: Sequence[CertifyRow]) -> dict[str, str]:
    """The files of a comparison by name: a row a method, a row a sample and method, a row a layer."""
    numbers = ("median_margin", "mean_margin", "median_seconds", "mean_seconds")
    several = any(s.epsilon is not None for s in summaries)
    names = ("method", "epsilon") if several else ("method",)
    methods = (
        [*(getattr(s, name) for name in names), *s.verdicts.values(), *(getattr(s, name) for name in numbers)]
        for s in summaries
    )
    columns = ("index", "label", "name", "target", "predicted", *names, "verdict", "margin", "seconds")
    widths = ([layer, *(s.widths.get(layer) for s in summaries)] for layer in all_layers(summaries))
    return {
        "comparison.csv": csv_text([*names, *(v.value for v in Verdict), *numbers], methods),
        "margins.csv": csv_text(columns, ([getattr(row, name) for name in columns] for row in rows)),
        "widths.csv": csv_text(["layer", *(s.series for s in summaries)], widths),
    }
