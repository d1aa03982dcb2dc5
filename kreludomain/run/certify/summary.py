"""Statistics of a run: counts, margins, seconds, widths, and the samples that only joint methods verify."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kreludomain.run.certify.rows import CertifyRow
from kreludomain.run.config.methods import NamedMethod
from kreludomain.run.output.numbers import mean, median
from kreludomain.verify import Verdict


@dataclass(frozen=True)
class Summary:
    """One method over all samples; a statistic of nothing is ``None``.

    ``widths``: each layer's mean width, over the samples that have bounds.
    """

    method: str
    verdicts: Mapping[Verdict, int]
    median_margin: float | None
    mean_margin: float | None
    median_seconds: float | None
    mean_seconds: float | None
    widths: Mapping[str, float]


def in_order(rows: Iterable[CertifyRow], methods: Sequence[NamedMethod]) -> list[CertifyRow]:
    """The rows sample by sample, for each the methods in their order: not in the order in which they were finished."""
    position = {method.label: number for number, method in enumerate(methods)}
    return sorted(rows, key=lambda row: (row.index, position[row.method]))


def summarise(methods: Iterable[NamedMethod], rows: Sequence[CertifyRow]) -> list[Summary]:
    """A summary a method, in their order. Misclassified samples and errors have no part in margins and seconds."""
    return [_summary(method.label, [row for row in rows if row.method == method.label]) for method in methods]


def _summary(method: str, rows: Sequence[CertifyRow]) -> Summary:
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
    )


def joint_gains(methods: Sequence[NamedMethod], rows: Sequence[CertifyRow]) -> str | None:
    """Which samples joint methods verify and no other one does; ``None`` if the run does not have both kinds."""
    verified = {
        method.label: {row.index for row in rows if row.method == method.label and row.verdict == Verdict.VERIFIED}
        for method in methods
    }
    joint = [method.label for method in methods if method.is_joint]
    single = [method.label for method in methods if not method.is_joint]
    if not joint or not single:
        return None
    others = set[int]().union(*(verified[label] for label in single))
    gains = {label: sorted(verified[label] - others) for label in joint}
    sentences = [_sentence(label, gained) for label, gained in gains.items() if gained]
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
