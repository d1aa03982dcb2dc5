"""Tables on screen and as CSV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table

from kreludomain.run.certify.rows import CertifyRow
from kreludomain.run.certify.summary import Summary
from kreludomain.run.output.tables import csv_text, plain_table, shown
from kreludomain.verify import Verdict


def summary_table(summaries: Sequence[Summary], tight: bool) -> Table:
    """A row a method: counts of the verdicts that occur, margins, seconds. ``tight``: margins are the best."""
    occur = [v for v in Verdict if v == Verdict.VERIFIED or any(s.verdicts[v] for s in summaries)]
    table = plain_table("method", *(v.value for v in occur), "median margin", "mean margin", "median s")
    for s in summaries:
        numbers = (s.median_margin, s.mean_margin, s.median_seconds)
        table.add_row(s.method, *(str(s.verdicts[v]) for v in occur), *map(shown, numbers))
    if not tight:
        table.caption = "margins: where a row is proved, its first positive bound; its best with 'tight: true'"
    return table


def margins_table(rows: Sequence[CertifyRow], methods: Sequence[str], most: int = 25) -> Table:
    """Margins side by side: a row a sample, a column a method; at most the first ``most`` samples."""
    table = plain_table("sample", "label", *methods, title="margins (smallest lower bound of the claim's rows)")
    by_sample: dict[int, dict[str, CertifyRow]] = {}
    for row in rows:
        by_sample.setdefault(row.index, {})[row.method] = row
    for index, found in list(by_sample.items())[:most]:
        label = next(iter(found.values())).label
        table.add_row(str(index), str(label), *(_margin(found[method]) for method in methods))
    if len(by_sample) > most:
        table.caption = f"and {len(by_sample) - most} more in margins.csv"
    return table


def _margin(row: CertifyRow) -> str:
    return row.verdict.value if row.margin is None else shown(row.margin)


def widths_table(summaries: Sequence[Summary]) -> Table:
    """Mean widths: a row a layer, a column a method."""
    table = plain_table("layer", *(s.method for s in summaries), title="mean width of a layer's bounds")
    for layer in all_layers(summaries):
        table.add_row(layer, *(shown(s.widths.get(layer)) for s in summaries))
    return table


def all_layers(summaries: Iterable[Summary]) -> list[str]:
    """The layers that any method has bounds of, in the network's order."""
    return list(dict.fromkeys(layer for summary in summaries for layer in summary.widths))


def csv_files(summaries: Sequence[Summary], rows: Sequence[CertifyRow]) -> dict[str, str]:
    """The files of a comparison by name."""
    return {
        "comparison.csv": comparison_csv(summaries),
        "margins.csv": margins_csv(rows),
        "widths.csv": widths_csv(summaries),
    }


def comparison_csv(summaries: Sequence[Summary]) -> str:
    """A row a method."""
    numbers = ("median_margin", "mean_margin", "median_seconds", "mean_seconds")
    rows = ([s.method, *s.verdicts.values(), *(getattr(s, name) for name in numbers)] for s in summaries)
    return csv_text(["method", *(v.value for v in Verdict), *numbers], rows)


def margins_csv(rows: Sequence[CertifyRow]) -> str:
    """A row a sample and method."""
    columns = ("index", "label", "predicted", "method", "verdict", "margin", "seconds")
    return csv_text(columns, ([getattr(row, name) for name in columns] for row in rows))


def widths_csv(summaries: Sequence[Summary]) -> str:
    """A row a layer, a column a method."""
    rows = ([layer, *(s.widths.get(layer) for s in summaries)] for layer in all_layers(summaries))
    return csv_text(["layer", *(s.method for s in summaries)], rows)
