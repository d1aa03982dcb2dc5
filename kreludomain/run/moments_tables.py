"""Tables of a moments run, on screen and as CSV."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from statistics import median

from rich.table import Table

from kreludomain.run.moments_study import AttackRow, MomentRow
from kreludomain.run.output.tables import csv_text, plain_table, shown


def error_table(rows: Sequence[MomentRow], field: str, rule: str, chance: str | None = None) -> Table:
    """Medians over the samples of an error: a row an estimate, a column a noise. ``chance``: the field with what Monte
    Carlo's own error makes of it, as a last row."""
    noises = list(dict.fromkeys(row.noise for row in rows))
    table = plain_table("kept", *(f"noise {noise}" for noise in noises))
    for layer, displacement in estimates(rows):
        chosen = [r for r in rows if (r.layer, r.displacement) == (layer, displacement) and r.rule in (rule, "exact")]
        name = layer if not displacement else f"{layer}, {displacement:g} draws away"
        table.add_row(name, *(shown(typical(_of(chosen, noise, rule), field)) for noise in noises))
    if chance is not None:
        by_noise = ([r for r in rows if r.noise == noise] for noise in noises)
        table.add_row("Monte Carlo's own", *(shown(typical(chosen, chance)) for chosen in by_noise))
    return table


def _of(rows: Sequence[MomentRow], noise: str, rule: str) -> list[MomentRow]:
    """Rows of a noise by a rule; by the exact one where a linear estimate has no other."""
    chosen = [row for row in rows if row.noise == noise]
    return [row for row in chosen if row.rule == rule] or chosen


def estimates(rows: Sequence[MomentRow]) -> list[tuple[str, float]]:
    """The estimates in the order of the run: the layer that is kept, and how far from the mean is linearised."""
    return list(dict.fromkeys((row.layer, row.displacement) for row in rows))


def typical(rows: Sequence[MomentRow], field: str) -> float | None:
    """The median of a field over the rows that have it."""
    values = [value for row in rows if (value := getattr(row, field)) is not None]
    return median(values) if values else None


def cheap_line(rows: Sequence[MomentRow]) -> str | None:
    """How far the cheap covariances are from the exact ones."""
    found = [row.cheap_difference for row in rows if row.rule == "cheap" and row.cheap_difference is not None]
    if not found:
        return None
    return (
        f"Cheap covariances of the output differ from the exact rule's by {median(found):.2g} "
        f"(median, relative, Frobenius norm), at most {max(found):.2g}."
    )


def attacks_table(rows: Sequence[AttackRow]) -> Table:
    """A row a sample and attack."""
    columns = (
        "label",
        "target",
        "success",
        "expected",
        "sampled",
        "size",
        "as target",
        "clipped",
        "as label",
        "control",
    )
    table = plain_table("sample", "attack", *columns, title="Gaussian attacks")
    for row in rows:
        shares = (row.target_share, row.clipped_share, row.label_share, row.control_share)
        sampled = "-" if row.sampled is None else f"{row.sampled:.3g} +- {row.error:.1g}"
        table.add_row(
            str(row.index),
            row.attack,
            str(row.label),
            "-" if row.target is None else str(row.target),
            "yes" if row.success else "no" if row.sampled is not None else "-",
            shown(row.expected),
            sampled,
            shown(row.size),
            *("-" if share is None else f"{100 * share:.0f} %" for share in shares),
        )
    table.caption = (
        "expected, sampled: score of the target less the best other (any: less the label's); size: l_2 norm of the\n"
        "noise's mean; shares of draws: as the target, the same clipped, as the label; control: as the label, with a\n"
        "mean of the same size in a random direction"
    )
    return table


def moments_csv(rows: Sequence[MomentRow]) -> str:
    """A row a sample, noise, estimate and rule."""
    return _csv(MomentRow, rows)


def attacks_csv(rows: Sequence[AttackRow]) -> str:
    """A row a sample and attack."""
    return _csv(AttackRow, rows)


def _csv(kind: type[MomentRow] | type[AttackRow], rows: Sequence[MomentRow] | Sequence[AttackRow]) -> str:
    names = [field.name for field in dataclasses.fields(kind) if field.name != "row"]
    return csv_text(names, ([getattr(row, name) for name in names] for row in rows))
