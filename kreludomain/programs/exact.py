"""ReLUs as rows with binaries, exactly (big-M).

A ReLU ``y = max(a, 0)`` with ``l <= a <= u`` and ``l < 0 < u`` becomes, with a binary ``s`` (1: active),

    y >= 0,   y >= a,   y <= u s,   y <= a - l (1 - s),

which is exact, and whose relaxation is the triangle. Neurons whose sign the bounds decide cost nothing, and the others
the less the tighter ``l`` and ``u`` are (Tjeng, Xiao and Tedrake, *Evaluating robustness of neural networks with mixed
integer programming*, ICLR 2019).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from kreludomain.network import Network, Node
from kreludomain.programs.encode import NetworkEncoder
from kreludomain.programs.expressions import Affine, stacked
from kreludomain.programs.model import Model
from kreludomain.rounding import ROUNDING


@dataclass(frozen=True, eq=False)
class UnstableRelus:
    """The unstable ReLUs of a node: flat positions, bounds ``low < 0 < high``, pre-activations, and the binaries that
    say which are active. ``proportional`` are pairs of them, with the factor from the first pre-activation to the
    second, where it is the same for every input."""

    at: np.ndarray
    low: np.ndarray
    high: np.ndarray
    before: Affine
    active: Affine
    proportional: tuple[tuple[int, int, float], ...]

    def require_proportional(self, model: Model, before: Affine, after: Affine) -> None:
        """Rows for proportional pairs, of values and of differences: ``ReLU(c a) = c ReLU(a)`` for ``c > 0``, and
        ``ReLU(a) - ReLU(-a) = a``. So a network that copies its input by pairs of ReLUs is seen to copy it."""
        for first, second, factor in self.proportional:
            i, j = np.array([first]), np.array([second])
            kept = after[i] if factor > 0 else after[i] - before[i]
            model.require(after[j] - abs(factor) * kept, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class ExactNetwork:
    """A network's values at one input, flat, by node, in a model's variables, and its unstable ReLUs by node."""

    network: Network
    values: dict[str, Affine]
    unstable: dict[str, UnstableRelus]

    @property
    def output(self) -> Affine:
        """The network's output."""
        return self.values[self.network.output.name]

    @property
    def active(self) -> Affine:
        """The binaries of all unstable ReLUs."""
        return stacked([found.active for found in self.unstable.values()])

    def pattern(self, x: Tensor) -> np.ndarray:
        """The values of :attr:`active` at an input ``(*shape)``."""
        values = self.network.values(x[None])
        parts = [
            values[self.network[name].inputs[0]].flatten().numpy()[found.at] > 0
            for name, found in self.unstable.items()
        ]
        return np.concatenate(parts).astype(float)


@dataclass
class ExactEncoder(NetworkEncoder):
    """ReLUs exactly, with a binary for each unstable one. Takes no other activation."""

    unstable: dict[str, UnstableRelus] = field(default_factory=dict)

    def exact(self, x: Affine) -> ExactNetwork:
        """The network at ``x``. Raises :class:`InputError` for a node that is neither affine nor a ReLU."""
        self.encode(x)
        return ExactNetwork(self.network, self.values, self.unstable)

    def flat_bounds(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Bounds moved outwards by the rounding error of the rows that define the value."""
        low, high = super().flat_bounds(name)
        slack = ROUNDING * np.maximum(np.abs(low), np.abs(high))
        return np.where(low < 0, low - slack, low), np.where(high > 0, high + slack, high)

    def relu(self, node: Node) -> Affine:
        model, value = self.model, self.values[node.inputs[0]]
        low, high = self.flat_bounds(node.inputs[0])
        stable, at = np.flatnonzero(low >= 0), np.flatnonzero((low < 0) & (high > 0))
        kept = np.concatenate([stable, at])
        columns = model.define(value[kept], low[kept], high[kept])
        active_always, before = model.at(columns[: len(stable)]), model.at(columns[len(stable) :])
        after, active = model.variables(np.zeros(len(at)), high[at]), model.binaries(len(at))
        model.require(after - before, lower=0.0)
        model.require(after - high[at] * active, upper=0.0)
        model.require(after - before - low[at] * active, upper=-low[at])
        found = UnstableRelus(at, low[at], high[at], before, active, tuple(_proportional(value[at])))
        found.require_proportional(model, before, after)
        self.unstable[node.name] = found
        return active_always.placed(stable, len(low)) + after.placed(at, len(low))


def _proportional(value: Affine) -> Iterator[tuple[int, int, float]]:
    """Entries that are multiples of one another, to the last bit once both are scaled; each with the first of them."""
    seen: dict[bytes, tuple[int, float]] = {}
    for position in range(len(value)):
        row = value.matrix[position]
        row.sort_indices()
        row.eliminate_zeros()
        if not row.nnz:
            continue
        scale = float(row.data[0])
        terms = np.append(row.data, value.constant[position]) / scale + 0.0  # no negative zeros
        key = row.indices.tobytes() + terms.tobytes()
        first, first_scale = seen.setdefault(key, (position, scale))
        if first != position:
            yield first, position, scale / first_scale
