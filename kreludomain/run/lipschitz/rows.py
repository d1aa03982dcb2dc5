"""The rows of ``kreludomain lipschitz``, whether they fit each other, and their tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from rich.table import Table

from kreludomain.analysis.lipschitz import Bracket
from kreludomain.analysis.lipschitz.bracket import ORDER_TOL
from kreludomain.analysis.lipschitz.radius import LOCAL
from kreludomain.run.engine.study import Row
from kreludomain.run.output.tables import Cell, median, picked, plain_table, records_csv, shown

#: Names of certified constants for all inputs, and of the radii that follow from them.
PRODUCT, LIPSDP = "product", "LipSDP"


@dataclass(frozen=True)
class LayerNorm:
    """A layer's norm: the ``estimate``, and ``measured``, the mean over random networks (``None`` without draws)."""

    layer: str
    estimate: float
    measured: float | None


@dataclass(frozen=True)
class ArchitectureRow(Row):
    """An architecture with one initialisation.

    ``estimate`` is the product of the layers' estimated norms, ``measured`` the mean over random networks of the exact
    product (``None`` without draws), ``slope`` that of ``Estimate``. ``reason``: why there is nothing.
    """

    identity = ("kind", "architecture", "initialisation")

    architecture: str
    initialisation: str
    estimate: float | None = None
    measured: float | None = None
    slope: float | None = None
    layers: tuple[LayerNorm, ...] = ()
    seconds: float = 0.0
    reason: str = ""
    kind: Literal["architecture"] = "architecture"

    @property
    def outcome(self) -> str:
        return "failed" if self.estimate is None else "architectures"

    @property
    def ratio(self) -> float | None:
        """``estimate / measured``."""
        return self.estimate / self.measured if self.estimate is not None and self.measured else None


@dataclass(frozen=True)
class NetworkRow(Row):
    """A network's constants for all inputs, ``l_p`` to ``l_p`` with ``p`` the ``norm``.

    ``estimate`` depends on the architecture only and is not a bound; ``product`` and ``lipsdp`` are certified upper
    bounds; ``sampled`` is a lower bound. ``lipsdp_claimed``: the solver's optimum, not a bound; ``lipsdp_note``: how
    the solver ended, or why there is no value. ``reason``: why there are no constants.
    """

    identity = ("kind", "network")

    network: str
    norm: str
    estimate: float | None = None
    product: float | None = None
    lipsdp: float | None = None
    lipsdp_claimed: float | None = None
    lipsdp_note: str = ""
    sampled: float = 0.0
    seconds: float = 0.0
    axes: Mapping[str, int | float | str] = field(default_factory=dict)
    reason: str = ""
    kind: Literal["network"] = "network"

    @property
    def outcome(self) -> str:
        return "failed" if self.product is None else "networks"

    @property
    def uppers(self) -> dict[str, float]:
        """Certified upper bounds by name."""
        return {name: v for name, v in ((PRODUCT, self.product), (LIPSDP, self.lipsdp)) if v is not None}

    @property
    def bracket(self) -> Bracket:
        return Bracket(self.sampled, self.uppers)


@dataclass(frozen=True)
class SampleRow(Row):
    """A sample: constants over the region around it, and robust radii.

    ``local`` is a certified upper bound, ``upper`` the smallest one, the network's included, ``sampled`` a lower bound.
    ``radii``: certified ones by name; ``attacked``: the distance of the nearest counterexample found. ``None`` where
    nothing was found or asked for; ``epsilon`` too is where entries differ. ``notes``: searches that ended early.
    ``reason``: why there is less.
    """

    identity = ("kind", "network", "index")

    network: str
    index: int
    label: int
    norm: str
    epsilon: float | None
    predicted: int | None = None
    local: float | None = None
    upper: float | None = None
    sampled: float | None = None
    radii: Mapping[str, float] = field(default_factory=dict)
    attacked: float | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    reason: str = ""
    kind: Literal["sample"] = "sample"

    @property
    def within(self) -> str:
        """How far the region goes, in words: its epsilon, if that is one number."""
        return "the region" if self.epsilon is None else f"{self.epsilon:g}"

    @property
    def outcome(self) -> str:
        return "failed" if self.predicted is None else "samples" if self.predicted == self.label else "misclassified"

    def violations(self, network: NetworkRow) -> tuple[str, ...]:
        """Bounds below the sampled slope, radii above a counterexample. A correct program has none."""
        found: tuple[str, ...] = ()
        if self.sampled is not None and self.local is not None:
            found += Bracket(self.sampled, {**network.uppers, LOCAL: self.local}).violations
        if self.attacked is not None:
            nearest = self.attacked * (1 + ORDER_TOL)
            found += tuple(f"radius by {name}" for name, radius in self.radii.items() if radius > nearest)
        return found


AnyRow = ArchitectureRow | NetworkRow | SampleRow


@dataclass(frozen=True)
class Report:
    """All rows of a run. A network's ``sampled`` is the largest of its own and its samples'."""

    architectures: tuple[ArchitectureRow, ...] = ()
    networks: tuple[NetworkRow, ...] = ()
    samples: tuple[SampleRow, ...] = ()

    @classmethod
    def of(cls, rows: Iterable[AnyRow]) -> Report:
        rows = tuple(rows)
        samples = tuple(row for row in rows if isinstance(row, SampleRow))
        networks = {row.network: row for row in rows if isinstance(row, NetworkRow)}
        for row in samples:
            network = networks[row.network]
            networks[row.network] = replace(network, sampled=max(network.sampled, row.sampled or 0.0))
        return cls(tuple(r for r in rows if isinstance(r, ArchitectureRow)), tuple(networks.values()), samples)

    def around(self, network: NetworkRow) -> tuple[SampleRow, ...]:
        """The rows of a network's samples."""
        return tuple(row for row in self.samples if row.network == network.network)

    @property
    def radii(self) -> tuple[str, ...]:
        """The names of all radii, in the order of the run."""
        return tuple(dict.fromkeys(name for row in self.samples for name in row.radii))

    @property
    def violations(self) -> tuple[str, ...]:
        """Bounds and radii that contradict each other, by network and sample."""
        found = []
        for network in self.networks:
            found += [f"{network.network}: {name}" for name in network.bracket.violations]
            for row in self.around(network):
                found += [f"{network.network}, sample {row.index}: {name}" for name in row.violations(network)]
        return tuple(found)


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
    title = f"Lipschitz constants within {first.within} of a sample, l_{first.norm} to l_{first.norm}"
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
