"""The rows of ``kreludomain moments`` (a sample and noise, or a sample and attack), and their tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Literal

from rich.table import Table

from kreludomain.run.engine.study import Row
from kreludomain.run.output.tables import median, picked, plain_table, records_csv, shown

#: Layers of the estimates that keep no ReLU layer, and every one.
LINEAR, EVERY = "none (linear)", "every layer"


@dataclass(frozen=True)
class Estimate:
    """Estimated moments next to Monte Carlo; errors as in ``Agreement``, ``None`` where they are not finite.

    ``layer`` is the ReLU layer that is kept, ``rule`` how its covariance is computed, ``displacement`` how many draws
    of the noise away from the mean the network is linearised. ``cheap_difference``: the relative difference of the
    covariance from that by the exact rule.
    """

    layer: str
    rule: str
    displacement: float
    mean: float | None
    std: float | None
    covariance: float | None
    max_z_score: float | None
    cheap_difference: float | None
    seconds: float


@dataclass(frozen=True)
class MomentRow(Row):
    """All estimates of one sample's moments with one noise.

    ``samples`` were drawn by Monte Carlo, whose own errors are ``mean_sampling_error`` and
    ``covariance_sampling_error`` (as in ``Agreement``). ``arrays``: a file in the folder with the moments
    themselves, of the row that the figure shows. ``reason``: why there are no estimates.
    """

    identity = ("kind", "index", "noise")

    index: int
    label: int | None
    noise: str
    samples: int = 0
    mean_sampling_error: float | None = None
    covariance_sampling_error: float | None = None
    estimates: tuple[Estimate, ...] = ()
    arrays: str | None = None
    seconds: float = 0.0
    reason: str = ""
    kind: Literal["moments"] = "moments"

    @property
    def outcome(self) -> str:
        return "moments" if self.estimates else "failed"


@dataclass(frozen=True)
class AttackRow(Row):
    """A sample and an attack. Scores are the target's minus the largest other one (without a target: the label's).

    ``expected`` is by linearisation, ``sampled`` by Monte Carlo with its standard ``error``. ``size`` is the l_2 norm
    of the noise's mean, ``largest`` its largest entry, ``std`` the root mean square of the standard deviations of the
    entries with noise. ``target_share`` and ``label_share``: the shares of draws that are classified so;
    ``clipped_share``: as the target, with every entry clamped to the clip; ``control_share``: as the label, with a mean
    of the same size in a random direction within the same pixels or frequencies. ``arrays``: a file in the folder with
    the noise and all scores. ``reason``: why the attack did not succeed, or was not tried.
    """

    identity = ("kind", "index", "attack")

    index: int
    label: int
    attack: str
    target: int | None = None
    success: bool = False
    expected: float | None = None
    sampled: float | None = None
    error: float | None = None
    size: float | None = None
    largest: float | None = None
    std: float | None = None
    target_share: float | None = None
    label_share: float | None = None
    clipped_share: float | None = None
    control_share: float | None = None
    arrays: str | None = None
    seconds: float = 0.0
    reason: str = ""
    kind: Literal["attack"] = "attack"

    @property
    def outcome(self) -> str:
        if self.sampled is None:
            return "not attacked"
        return "successful attacks" if self.success else "unsuccessful attacks"


AnyRow = MomentRow | AttackRow


#: Tables of errors: field of the estimates, rule, title, and the field with Monte Carlo's own error.
ERRORS = (
    ("mean", "exact", "error of the mean, in standard deviations of the output", "mean_sampling_error"),
    ("covariance", "exact", "relative error of the covariance, exact rule", "covariance_sampling_error"),
    ("covariance", "cheap", "relative error of the covariance, cheap rule", None),
    ("max_z_score", "exact", "largest difference of an entry of mean and covariance, in standard errors", None),
)


def by_noise(rows: Iterable[MomentRow]) -> dict[str, list[MomentRow]]:
    """The rows of each noise, in the order of the run."""
    found: dict[str, list[MomentRow]] = {}
    for row in rows:
        found.setdefault(row.noise, []).append(row)
    return found


def typical(rows: Iterable[MomentRow], field: str, layer: str, displacement: float, rule: str) -> float | None:
    """The median over the rows of an estimate's error; of the exact rule where the estimate has no other."""
    values = []
    for row in rows:
        found = {e.rule: e for e in row.estimates if (e.layer, e.displacement) == (layer, displacement)}
        if found:
            values.append(getattr(found.get(rule, found["exact"]), field))
    return median(values)


def places(rows: Iterable[MomentRow]) -> list[tuple[str, float]]:
    """The layers that are kept and the displacements, in the order of the run."""
    return list(dict.fromkeys((e.layer, e.displacement) for row in rows for e in row.estimates))


def screen_tables(moments: Sequence[MomentRow], attacks: Sequence[AttackRow]) -> list[Table | str]:
    """The tables that the rows fill, and lines of text."""
    made: list[Table | str] = []
    for field, rule, title, sampling_error in ERRORS if any(row.estimates for row in moments) else ():
        made += [title, error_table(moments, field, rule, sampling_error)]
    return [*made, *cheap_line(moments), *([attacks_table(attacks)] if attacks else [])]


def error_table(rows: Sequence[MomentRow], field: str, rule: str, sampling_error: str | None = None) -> Table:
    """Medians over the samples of an error: a row an estimate, a column a noise; the last row is Monte Carlo's own."""
    groups = by_noise(rows)
    table = plain_table("kept", *(f"noise {noise}" for noise in groups))
    for layer, displacement in places(rows):
        name = layer if not displacement else f"{layer}, {displacement:g} draws away"
        table.add_row(name, *(shown(typical(group, field, layer, displacement, rule)) for group in groups.values()))
    if sampling_error is not None:
        own = (median(getattr(row, sampling_error) for row in group) for group in groups.values())
        table.add_row("Monte Carlo's own", *map(shown, own))
    return table


def cheap_line(rows: Iterable[MomentRow]) -> list[str]:
    """How far the cheap covariances are from the exact ones; nothing where no layer is kept."""
    found = [e.cheap_difference for row in rows for e in row.estimates if e.rule == "cheap"]
    known = [value for value in found if value is not None]
    text = "Cheap covariances of the output differ from the exact rule's by {:.2g} (median, relative, Frobenius norm), "
    return [text.format(median(known)) + f"at most {max(known):.2g}."] if known else []


#: The columns of the table of attacks besides sample and attack: title, and text of a row.
ATTACKS: dict[str, Callable[[AttackRow], str]] = {
    "label": lambda row: str(row.label),
    "target": lambda row: "-" if row.target is None else str(row.target),
    "success": lambda row: "-" if row.sampled is None else "yes" if row.success else "no",
    "expected": lambda row: shown(row.expected),
    "sampled": lambda row: "-" if row.sampled is None else f"{row.sampled:.3g} +- {row.error:.1g}",
    "size": lambda row: shown(row.size),
    "as target": lambda row: _percent(row.target_share),
    "clipped": lambda row: _percent(row.clipped_share),
    "as label": lambda row: _percent(row.label_share),
    "control": lambda row: _percent(row.control_share),
}


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def attacks_table(rows: Iterable[AttackRow]) -> Table:
    """A row a sample and attack."""
    table = plain_table("sample", "attack", *ATTACKS, title="Gaussian attacks")
    for row in rows:
        table.add_row(str(row.index), row.attack, *(text(row) for text in ATTACKS.values()))
    table.caption = (
        "expected, sampled: score of the target less the best other (any: less the label's); size: l_2 norm of the\n"
        "noise's mean; shares of draws: as the target, the same clipped, as the label; control: as the label, with a\n"
        "mean of the same size in a random direction"
    )
    return table


#: The columns of moments.csv besides those of estimates, and of attacks.csv.
MOMENTS = ("index", "label", "noise", "samples", "mean_sampling_error", "covariance_sampling_error")
ATTACK = [field.name for field in fields(AttackRow) if field.name != "kind"]


def csv_files(moments: Sequence[MomentRow], attacks: Sequence[AttackRow]) -> dict[str, str]:
    """The rows as CSV, by the name of the file: a line a sample, noise and estimate; a line a sample and attack."""
    records = {
        "moments.csv": [picked(row, MOMENTS) | asdict(estimate) for row in moments for estimate in row.estimates],
        "attacks.csv": [picked(row, ATTACK) for row in attacks],
    }
    return {name: records_csv(found) for name, found in records.items() if found}
