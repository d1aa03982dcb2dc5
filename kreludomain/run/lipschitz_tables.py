"""Tables of Lipschitz constants and radii, on screen and as CSV."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from rich.table import Table

from kreludomain.run.lipschitz_rows import ALL, NetworkRow, Report, SampleRow
from kreludomain.run.output.tables import csv_text, plain_table, shown

#: Samples shown on screen one by one; of more there are medians, and everything is in samples.csv.
MOST = 20


def screen_tables(report: Report) -> list[Table]:
    """The tables that the rows fill."""
    made = []
    if report.architectures:
        made.append(_architectures(report))
    if report.networks:
        made += [_everywhere(report), _around(report)]
    if report.radii:
        made.append(_radii(report))
    return made


def _architectures(report: Report) -> Table:
    columns = ("estimate", "measured", "ratio", "ratio a layer", "slope")
    table = plain_table(
        "architecture", "initialisation", *columns, title="product of layer norms, from the architecture alone"
    )
    ratios: list[float] = []
    for row in report.architectures:
        ratio = None if row.measured is None else row.estimate / row.measured
        if row.layer != ALL:
            ratios += [] if ratio is None else [ratio]
            continue
        each = f"{min(ratios):.2f} to {max(ratios):.2f}" if ratios else "-"
        ratios = []
        numbers = map(shown, (row.estimate, row.measured, ratio))
        table.add_row(row.architecture, row.initialisation, *numbers, each, shown(row.slope))
    table.caption = (
        "measured: exact norms of random networks, mean; ratio: estimate / measured; layers are in architectures.csv\n"
        "slope: what an untrained network does to a random direction, root mean square"
    )
    return table


def _everywhere(report: Report) -> Table:
    norm = report.networks[0].norm
    every: dict[str, list[float | None]] = {
        "sampled (at least)": [row.sampled for row in report.networks],
        "LipSDP (at most)": [row.lipsdp for row in report.networks],
        "product (at most)": [row.product for row in report.networks],
        "upper / lower": [row.bracket.ratio for row in report.networks],
        "estimate": [row.estimate for row in report.networks],
        "s": [row.seconds for row in report.networks],
    }
    columns = {name: values for name, values in every.items() if any(value is not None for value in values)}
    title = f"Lipschitz constants for all inputs, l_{norm} to l_{norm}"
    table = plain_table("network", *columns, title=title)
    for position, row in enumerate(report.networks):
        table.add_row(row.network, *(shown(values[position]) for values in columns.values()))
    notes = [f"{row.network}: no LipSDP, {row.lipsdp_note}" for row in report.networks if row.lipsdp is None]
    if "estimate" in columns:
        notes.append("estimate: the product of an untrained network, from the architecture alone; no bound")
    table.caption = "\n".join(notes) or None
    return table


def _around(report: Report) -> Table:
    first = report.samples[0]
    table = plain_table(
        "network",
        "sample",
        "sampled (at least)",
        "local (at most)",
        "best (at most)",
        "upper / lower",
        title=f"Lipschitz constants within {first.epsilon:g} of a sample, l_{first.norm} to l_{first.norm}",
    )
    for network in report.networks:
        for label, rows in _lines(report, network):
            ratio = _median(row.upper / row.sampled for row in rows if row.upper is not None and row.sampled)
            values = (_median(getattr(row, name) for row in rows) for name in ("sampled", "local", "upper"))
            table.add_row(network.network, label, *map(shown, (*values, ratio)))
    table.caption = "best: the smallest certified one, global ones included"
    return table


def _radii(report: Report) -> Table:
    title = f"certified robust radii in l_{report.samples[0].norm}, and the nearest counterexample found"
    table = plain_table("network", "sample", *report.radii, "attack (at most)", title=title)
    for network in report.networks:
        for label, rows in _lines(report, network):
            values = [_median(row.radii.get(name) for row in rows) for name in report.radii]
            table.add_row(network.network, label, *map(shown, (*values, _median(row.attacked for row in rows))))
    notes = list(
        dict.fromkeys(f"{row.network}, sample {row.index}: {note}" for row in report.samples for note in row.notes)
    )
    if notes:
        table.caption = "\n".join(notes[:MOST] + ([f"and {len(notes) - MOST} more notes"] if len(notes) > MOST else []))
    return table


def _lines(report: Report, network: NetworkRow) -> list[tuple[str, Sequence[SampleRow]]]:
    """A network's samples one by one where these are few lines, and all of them for their median."""
    rows = report.around(network)
    if len(report.samples) > MOST:
        return [(f"median of {len(rows)}", rows)]
    single = [(str(row.index), (row,)) for row in rows]
    return [*single, (f"median of {len(rows)}", rows)] if len(rows) > 1 else [*single]


def _median(values: Iterable[float | None]) -> float | None:
    """The median of those that are there."""
    found = [value for value in values if value is not None]
    return statistics.median(found) if found else None


def csv_files(report: Report) -> dict[str, str]:
    """The rows as CSV, by the name of the file."""
    files = {}
    if report.architectures:
        columns = ("architecture", "initialisation", "layer", "estimate", "measured", "slope")
        files["architectures.csv"] = csv_text(columns, ([getattr(r, c) for c in columns] for r in report.architectures))
    if report.networks:
        axes = list(dict.fromkeys(axis for row in report.networks for axis in row.axes))
        names = (
            "network",
            "norm",
            "sampled",
            "lipsdp",
            "product",
            "estimate",
            "lipsdp_claimed",
            "lipsdp_note",
            "seconds",
        )
        rows = ([getattr(r, name) for name in names] + [r.axes.get(axis) for axis in axes] for r in report.networks)
        files["networks.csv"] = csv_text([*names, *axes], rows)
        about = ("network", "index", "label", "predicted", "norm", "epsilon", "sampled", "local", "upper", "attacked")
        samples = ([getattr(r, c) for c in about] + [r.radii.get(n) for n in report.radii] for r in report.samples)
        files["samples.csv"] = csv_text([*about, *(f"radius by {name}" for name in report.radii)], samples)
    return files
