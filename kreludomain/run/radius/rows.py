"""The rows of ``radius``, certified accuracy as a function of epsilon, and the tables on screen and as CSV."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from kreludomain.run.engine.study import Row
from kreludomain.run.output.tables import Cell, csv_text, mean, median, plain_table, shown

#: The label of the rows of the search for counterexamples, which is made once a sample and shared by all methods.
ATTACK = "attack"


@dataclass(frozen=True)
class RadiusRow(Row):
    """How far around a sample a method proves the claim; or, in a row of the attack, how near it fails.

    ``certified``: the largest epsilon at which the method proved the claim, 0 if it did at none; ``None`` in rows of
    the attack and where there is no result. ``attacked``: the distance of the nearest counterexample that is known,
    ``counterexample`` its file; 0 for a sample that is ``misclassified``. ``calls`` are those of the method,
    ``attacks`` the searches for counterexamples. ``trials``: epsilon, verdict and margin of each call. The other fields
    are those of a row of ``certify``.
    """

    identity = ("index", "method")

    index: int
    label: int | None
    predicted: int | float | None
    method: str
    certified: float | None = None
    attacked: float | None = None
    misclassified: bool = False
    calls: int = 0
    attacks: int = 0
    seconds: float = 0.0
    reason: str = ""
    notes: tuple[str, ...] = ()
    counterexample: str | None = None
    trials: tuple[tuple[float, str, float | None], ...] = ()
    name: str | None = None
    target: float | None = None
    claim: str = ""

    @property
    def outcome(self) -> str:
        if self.misclassified:
            return "misclassified"
        if self.method == ATTACK:
            return "attacked" if self.attacked is not None else "not attacked"
        return "failed" if self.certified is None else "certified" if self.certified > 0 else "not certified"

    @property
    def label_text(self) -> str:
        """What the data says about the sample, in tables."""
        known = (self.name, self.label, None if self.target is None else shown(self.target))
        return next((str(value) for value in known if value is not None), "-")


@dataclass(frozen=True)
class Curve:
    """A share of the samples that falls with epsilon: those whose radius is at least (or above) it.

    ``radii`` are of the samples that are not misclassified, infinite where nothing ends them; ``total`` counts all.
    """

    name: str
    radii: tuple[float, ...]
    total: int

    def __call__(self, epsilon: float) -> float:
        """The share of samples whose radius is at least ``epsilon``; at 0, those that are not misclassified."""
        return sum(radius >= epsilon for radius in self.radii) / self.total


@dataclass(frozen=True)
class Accuracy:
    """Certified accuracy as a function of epsilon, a curve a method; ``attacked`` is the upper bound of all of them:
    the share of samples without a counterexample nearer than that."""

    certified: tuple[Curve, ...]
    attacked: Curve

    @property
    def epsilons(self) -> list[float]:
        """0, and where a curve falls."""
        curves = (*self.certified, self.attacked)
        return sorted({0.0, *(radius for curve in curves for radius in curve.radii if math.isfinite(radius))})


def accuracy(methods: Sequence[str], rows: Sequence[RadiusRow]) -> Accuracy:
    """The curves of methods. A sample whose search failed counts as one of radius 0."""
    nearest = attacked_radii(rows)
    right = {index for index, radius in nearest.items() if radius > 0}
    curves = [
        Curve(
            method,
            tuple(row.certified or 0.0 for row in rows if row.method == method and row.index in right),
            sum(row.method == method for row in rows),
        )
        for method in methods
    ]
    return Accuracy(tuple(curves), Curve(ATTACK, tuple(nearest[index] for index in right), len(nearest)))


def attacked_radii(rows: Iterable[RadiusRow]) -> dict[int, float]:
    """The distance of the nearest counterexample of each sample, infinite if there is none, by the sample's index."""
    nearest: dict[int, float] = {}
    for row in rows:
        found = math.inf if row.attacked is None else row.attacked
        nearest[row.index] = min(nearest.get(row.index, math.inf), found)
    return nearest


def contradictions(rows: Sequence[RadiusRow]) -> list[str]:
    """Certified radii above the distance of a counterexample, by more than rounding to float32."""
    nearest = attacked_radii(rows)
    return [
        f"sample {row.index}: {row.method} certifies {row.certified:g}, a counterexample is at {nearest[row.index]:g}"
        for row in rows
        if row.certified is not None and row.certified > nearest[row.index] * (1 + 1e-5)
    ]


@dataclass(frozen=True)
class Summary:
    """One method over all samples; misclassified ones count as radius 0. A statistic of nothing is ``None``.

    ``closed``: the share of samples whose bracket the tolerance has closed; ``accuracy``: certified accuracy by
    epsilon, at those that were asked for.
    """

    method: str
    median_radius: float | None
    mean_radius: float | None
    closed: float
    mean_calls: float | None
    median_seconds: float | None
    accuracy: Mapping[str, float]


def summarise(
    methods: Sequence[str], rows: Sequence[RadiusRow], epsilons: Sequence[float], tolerance: float
) -> list[Summary]:
    """A summary a method, in their order."""
    curves, nearest = accuracy(methods, rows), attacked_radii(rows)
    found = []
    for curve in curves.certified:
        own = [row for row in rows if row.method == curve.name]
        radii = [row.certified or 0.0 for row in own]
        closed = [(row.certified or 0.0) >= (1 - 2 * tolerance) * nearest[row.index] for row in own]
        asked = [row for row in own if not row.misclassified]
        found.append(
            Summary(
                curve.name,
                median(radii),
                mean(radii),
                sum(closed) / max(1, len(closed)),
                mean(row.calls for row in asked),
                median(row.seconds for row in asked),
                {f"{epsilon:g}": curve(epsilon) for epsilon in epsilons},
            )
        )
    return found


def summary_table(summaries: Sequence[Summary], attacked: Curve, epsilons: Sequence[float]) -> Table:
    """A row a method, then the attack: radii, and certified accuracy at epsilons that were asked for."""
    shares = [f"at {epsilon:g}" for epsilon in epsilons]
    table = plain_table("method", "median radius", "mean radius", "closed", *shares, "mean calls", "median s")
    for s in summaries:
        at = [_percent(share) for share in s.accuracy.values()]
        numbers = (shown(s.median_radius), shown(s.mean_radius), _percent(s.closed))
        table.add_row(s.method, *numbers, *at, shown(s.mean_calls), shown(s.median_seconds))
    radii = [*attacked.radii, *[0.0] * (attacked.total - len(attacked.radii))]
    finite = [radius for radius in radii if math.isfinite(radius)]
    middle = median(radii)
    upper = (
        "-" if middle is None or math.isinf(middle) else shown(middle),
        shown(mean(radii)) if len(finite) == len(radii) else "-",
        "",
        *(_percent(attacked(math.nextafter(epsilon, math.inf))) for epsilon in epsilons),
    )
    table.add_row("attack (upper bound)", *upper, "", "")
    table.caption = "closed: certified up to the nearest counterexample, within the tolerance"
    return table


def samples_table(rows: Sequence[RadiusRow], methods: Sequence[str], most: int = 25) -> Table:
    """Radii side by side: a row a sample, a column a method; at most the first ``most`` samples."""
    table = plain_table("sample", "label", *methods, "counterexample at", title="certified radii")
    nearest, by_sample = attacked_radii(rows), dict[int, dict[str, RadiusRow]]()
    for row in rows:
        by_sample.setdefault(row.index, {})[row.method] = row
    for index, found in list(by_sample.items())[:most]:
        radii = [shown(found[method].certified) if method in found else "-" for method in methods]
        upper = shown(nearest[index]) if math.isfinite(nearest[index]) else "-"
        table.add_row(str(index), next(iter(found.values())).label_text, *radii, upper)
    if len(by_sample) > most:
        table.caption = f"and {len(by_sample) - most} more in radii.csv"
    return table


def csv_files(methods: Sequence[str], rows: Sequence[RadiusRow]) -> dict[str, str]:
    """The files by name: a row a sample and method; certified accuracy wherever it changes."""
    columns = ("index", "label", "name", "target", "predicted", "method", "certified", "attacked")
    more = ("misclassified", "calls", "attacks", "seconds", "reason")
    curves = accuracy(methods, rows)
    header = ("epsilon", *methods, "attack (upper bound)")
    lines = [_accuracies(curves, epsilon) for epsilon in curves.epsilons]
    return {
        "radii.csv": csv_text((*columns, *more), ([getattr(row, name) for name in (*columns, *more)] for row in rows)),
        "certified_accuracy.csv": csv_text(header, lines),
    }


def _accuracies(curves: Accuracy, epsilon: float) -> list[Cell]:
    return [
        epsilon,
        *(curve(epsilon) for curve in curves.certified),
        curves.attacked(math.nextafter(epsilon, math.inf)),
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"
