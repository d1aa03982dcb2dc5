"""Tables of Lipschitz constants and radii, on screen and as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from rich.table import Table

from kreludomain.run.lipschitz.rows import ArchitectureRow, NetworkRow, Report, SampleRow
from kreludomain.run.output.numbers import median
from kreludomain.run.output.tables import Cell, picked, plain_table, records_csv, shown

#: Samples shown on screen one by one; of more there are medians, and all are in samples.csv.
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
    if made and (notes := _notes(report)):
        made[-1].caption = "\n".join([*([str(made[-1].caption)] if made[-1].caption else []), *notes])
    return made


def _architectures(report: Report) -> Table:
    columns = ("estimate", "measured", "ratio", "ratio a layer", "slope")
    title = "product of layer norms, from the architecture alone"
    table = plain_table("architecture", "initialisation", *columns, title=title)
    for row in report.architectures:
        ratios = [layer.estimate / layer.measured for layer in row.layers if layer.measured]
        each = f"{min(ratios):.2f} to {max(ratios):.2f}" if ratios else "-"
        numbers = map(shown, (row.estimate, row.measured, row.ratio))
        table.add_row(row.architecture, row.initialisation, *numbers, each, shown(row.slope))
    table.caption = (
        "measured: exact norms of random networks, mean; ratio: estimate / measured; layers are in architectures.csv\n"
        "slope: root mean square factor by which an untrained network changes the length of a vector"
    )
    return table


def _everywhere(report: Report) -> Table:
    norm = report.networks[0].norm
    every: dict[str, list[float | None]] = {
        "sampled (at least)": [row.sampled for row in report.networks],
        "LipSDP (at most)": [row.lipsdp for row in report.networks],
        "product (at most)": [row.product for row in report.networks],
        "upper / lower": [row.bracket.ratio if row.uppers else None for row in report.networks],
        "estimate": [row.estimate for row in report.networks],
        "s": [row.seconds for row in report.networks],
    }
    columns = {name: values for name, values in every.items() if any(value is not None for value in values)}
    title = f"Lipschitz constants for all inputs, l_{norm} to l_{norm}"
    table = plain_table("network", *columns, title=title)
    for position, row in enumerate(report.networks):
        table.add_row(row.network, *(shown(values[position]) for values in columns.values()))
    without = [row for row in report.networks if row.lipsdp is None]
    notes = [f"{row.network}: no LipSDP, {row.reason or row.lipsdp_note}" for row in without]
    if "estimate" in columns:
        notes.append("estimate: the product of an untrained network, from the architecture alone; not a bound")
    table.caption = "\n".join(notes) or None
    return table


def _around(report: Report) -> Table:
    first = report.samples[0]
    title = f"Lipschitz constants within {first.epsilon:g} of a sample, l_{first.norm} to l_{first.norm}"
    columns = ("sampled (at least)", "local (at most)", "best (at most)", "upper / lower")
    table = plain_table("network", "sample", *columns, title=title)
    for network in report.networks:
        for label, rows in _lines(report, network):
            ratio = median(row.upper / row.sampled for row in rows if row.upper is not None and row.sampled)
            values = (median(getattr(row, name) for row in rows) for name in ("sampled", "local", "upper"))
            table.add_row(network.network, label, *map(shown, (*values, ratio)))
    table.caption = "best: the smallest certified one, global ones included"
    return table


def _radii(report: Report) -> Table:
    title = f"certified robust radii in l_{report.samples[0].norm}, and the nearest counterexample found"
    table = plain_table("network", "sample", *report.radii, "attack (at most)", title=title)
    for network in report.networks:
        for label, rows in _lines(report, network):
            values = [median(row.radii.get(name) for row in rows) for name in report.radii]
            table.add_row(network.network, label, *map(shown, (*values, median(row.attacked for row in rows))))
    return table


def _notes(report: Report) -> list[str]:
    """The samples' notes, the first of them."""
    said = ((row, note) for row in report.samples for note in (*row.notes, row.reason) if note)
    notes = dict.fromkeys(f"{row.network}, sample {row.index}: {note}" for row, note in said)
    return [*list(notes)[:MOST], *([f"and {len(notes) - MOST} more notes"] if len(notes) > MOST else [])]


def _lines(report: Report, network: NetworkRow) -> list[tuple[str, Sequence[SampleRow]]]:
    """A network's samples one by one where they are few, and all of them for their median."""
    rows = report.around(network)
    every: tuple[str, Sequence[SampleRow]] = (f"median of {len(rows)}", rows)
    if len(report.samples) > MOST:
        return [every]
    return [*((str(row.index), (row,)) for row in rows), *([every] if len(rows) > 1 else [])]


#: The columns of the CSV files, besides those of axes and radii.
NETWORKS = ("network", "norm", "sampled", "lipsdp", "product", "estimate", "lipsdp_claimed", "lipsdp_note", "seconds")
SAMPLES = ("network", "index", "label", "predicted", "norm", "epsilon", "sampled", "local", "upper", "attacked")


def csv_files(report: Report) -> dict[str, str]:
    """The rows as CSV, by the name of the file; an architecture has a line a layer, and one for all of them."""
    records = {
        "architectures.csv": [line for row in report.architectures for line in _layers(row)],
        "networks.csv": [picked(row, NETWORKS) | dict(row.axes) for row in report.networks],
        "samples.csv": [
            picked(row, SAMPLES) | {f"radius by {name}": radius for name, radius in row.radii.items()}
            for row in report.samples
        ],
    }
    return {name: records_csv(found) for name, found in records.items() if found}


def _layers(row: ArchitectureRow) -> list[dict[str, Cell]]:
    about, whole = picked(row, ("architecture", "initialisation")), picked(row, ("estimate", "measured", "slope"))
    return [*(about | asdict(layer) for layer in row.layers), about | {"layer": "all"} | whole]
