"""The rows of a run of ``kreludomain lipschitz``, and whether they fit each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from kreludomain.analysis.lipschitz import Bracket
from kreludomain.analysis.lipschitz.bracket import ORDER_TOL
from kreludomain.run.engine.study import Key, Row

#: Names of certified constants, and of the radii that follow from them.
PRODUCT, LIPSDP, LOCAL = "product", "LipSDP", "local"


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
    def key(self) -> Key:
        return self.kind, self.architecture, self.initialisation

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
    def key(self) -> Key:
        return self.kind, self.network

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
    nothing was found or asked for. ``notes``: searches that ended early. ``reason``: why there is less.
    """

    network: str
    index: int
    label: int
    norm: str
    epsilon: float
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
    def key(self) -> Key:
        return self.kind, self.network, self.index

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
