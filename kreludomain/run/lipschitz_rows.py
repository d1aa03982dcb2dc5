"""What a run of ``kreludomain lipschitz`` finds out, row by row, and whether the rows fit each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kreludomain.analysis.lipschitz import Bracket

#: Names of certified constants, and of the radii that follow from them.
PRODUCT, LIPSDP, LOCAL = "product", "LipSDP", "local"

#: The layer of a row that is about all of them.
ALL = "all"


@dataclass(frozen=True)
class ArchitectureRow:
    """A layer of an architecture, or all of them (``layer`` is ``all``), for one initialisation.

    ``estimate``: the norm, or the product of all. ``measured``: the exact one, the mean of random networks (``None``
    without draws). ``slope``, of all layers: the root mean square slope of an untrained network in a random direction.
    """

    architecture: str
    initialisation: str
    layer: str
    estimate: float
    measured: float | None
    slope: float | None = None
    kind: str = "architecture"


@dataclass(frozen=True)
class NetworkRow:
    """A network's constants for all inputs, ``l_p`` to ``l_p`` with ``p`` the ``norm``.

    ``estimate`` knows the architecture only and bounds nothing; ``product`` and ``lipsdp`` are certified; ``sampled``
    is a lower bound. ``lipsdp_claimed``: what the solver claims, no bound; ``lipsdp_note``: how it ended, or why there
    is no value.
    """

    network: str
    norm: str
    estimate: float | None
    product: float
    lipsdp: float | None
    lipsdp_claimed: float | None
    lipsdp_note: str
    sampled: float
    seconds: float
    axes: Mapping[str, int | float | str] = field(default_factory=dict)
    kind: str = "network"

    @property
    def bracket(self) -> Bracket:
        return Bracket(self.sampled, {PRODUCT: self.product} | ({} if self.lipsdp is None else {LIPSDP: self.lipsdp}))


@dataclass(frozen=True)
class SampleRow:
    """A sample: constants over the region around it, and robust radii.

    ``local`` is certified from bounds of the activations, ``upper`` the smallest certified constant, global ones
    included, ``sampled`` a lower bound. ``radii``: certified ones by name; ``attacked``: the distance of the nearest
    counterexample found. ``None`` stands for what was not found or not looked for.
    """

    network: str
    index: int
    label: int
    predicted: int
    norm: str
    epsilon: float
    local: float | None = None
    upper: float | None = None
    sampled: float | None = None
    radii: Mapping[str, float] = field(default_factory=dict)
    attacked: float | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    kind: str = "sample"

    def violations(self, everywhere: Bracket) -> tuple[str, ...]:
        """Bounds below the sampled slope, radii above a counterexample: none, unless the program is wrong."""
        found: tuple[str, ...] = ()
        if self.sampled is not None and self.local is not None:
            found += Bracket(self.sampled, {**everywhere.uppers, LOCAL: self.local}).violations
        if self.attacked is not None:
            nearest = self.attacked * (1 + 1e-9)
            found += tuple(f"radius by {name}" for name, radius in self.radii.items() if radius > nearest)
        return found


Row = ArchitectureRow | NetworkRow | SampleRow


@dataclass(frozen=True)
class Report:
    """All rows of a run. A network's ``sampled`` is the steepest slope seen anywhere, around its samples included."""

    architectures: tuple[ArchitectureRow, ...] = ()
    networks: tuple[NetworkRow, ...] = ()
    samples: tuple[SampleRow, ...] = ()

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Report:
        rows = tuple(rows)
        samples = tuple(row for row in rows if isinstance(row, SampleRow))
        networks = []
        for network in (row for row in rows if isinstance(row, NetworkRow)):
            seen = [row.sampled for row in samples if row.network == network.network and row.sampled is not None]
            networks.append(dataclasses.replace(network, sampled=max([network.sampled, *seen])))
        return cls(tuple(row for row in rows if isinstance(row, ArchitectureRow)), tuple(networks), samples)

    def around(self, network: NetworkRow) -> tuple[SampleRow, ...]:
        """The rows of a network's samples."""
        return tuple(row for row in self.samples if row.network == network.network)

    @property
    def radii(self) -> tuple[str, ...]:
        """The names of all radii, in the order they were computed."""
        return tuple(dict.fromkeys(name for row in self.samples for name in row.radii))

    @property
    def violations(self) -> tuple[str, ...]:
        """What breaks the order that the theory demands, in words."""
        found = []
        for network in self.networks:
            found += [f"{network.network}: {name}" for name in network.bracket.violations]
            for row in self.around(network):
                found += [f"{network.network}, sample {row.index}: {name}" for name in row.violations(network.bracket)]
        return tuple(found)
