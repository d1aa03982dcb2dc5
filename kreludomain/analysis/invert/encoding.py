"""Networks as rows of a mixed-integer program: one evaluation, and the difference of two that are close.

A ReLU ``y = max(a, 0)`` with ``l <= a <= u`` and ``l < 0 < u`` becomes, with a binary ``s`` (1: active),

    y >= 0,   y >= a,   y <= u s,   y <= a - l (1 - s),

which is exact, and whose relaxation is the triangle. Neurons whose sign the bounds decide cost nothing, and the others
the less the tighter ``l`` and ``u`` are (Tjeng, Xiao and Tedrake, *Evaluating robustness of neural networks with mixed
integer programming*, ICLR 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kreludomain.analysis.invert.milp import Affine, Milp, stacked
from kreludomain.domain import Bounds, LayerBounds
from kreludomain.errors import InputError
from kreludomain.network import Network, Node
from kreludomain.network.operators import AffineOperator
from kreludomain.programs.program import sparse_matrix
from kreludomain.rounding import ROUNDING


@dataclass(frozen=True, eq=False)
class Switches:
    """The ReLUs of a node that can be either: flat positions, bounds ``low < 0 < high``, columns of both sides, and
    the binaries that say which are active. ``twins`` are pairs of them, and the factor from the first pre-activation
    to the second, where it is the same for every input."""

    at: np.ndarray
    low: np.ndarray
    high: np.ndarray
    before: Affine
    active: Affine
    twins: tuple[tuple[int, int, float], ...]

    def tie(self, milp: Milp, before: Affine, after: Affine) -> None:
        """What holds for twins, of values and of differences: ``ReLU(c a) = c ReLU(a)`` for ``c > 0``, and
        ``ReLU(a) - ReLU(-a) = a``. So a network that copies its input by pairs of ReLUs is seen to copy it."""
        for first, second, factor in self.twins:
            i, j = np.array([first]), np.array([second])
            kept = after[i] if factor > 0 else after[i] - before[i]
            milp.require(after[j] - abs(factor) * kept, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A network's values, flat, by node, in a program's columns, and the switches of each ReLU node."""

    network: Network
    values: Mapping[str, Affine]
    switches: Mapping[str, Switches]

    @property
    def active(self) -> Affine:
        """The binaries of all switches."""
        return stacked([found.active for found in self.switches.values()])

    def pattern(self, x: Tensor) -> np.ndarray:
        """The values of :attr:`active` at an input ``(*shape)``."""
        values = self.network.values(x[None])
        parts = [
            values[self.network[name].inputs[0]].flatten().numpy()[found.at] > 0
            for name, found in self.switches.items()
        ]
        return np.concatenate(parts).astype(float)

    @property
    def output(self) -> Affine:
        return self.values[self.network.output.name]


def evaluate(milp: Milp, network: Network, bounds: LayerBounds, x: Affine) -> Evaluation:
    """The network's values at ``x``. Raises :class:`InputError` for a node that is neither affine nor a ReLU."""
    switches: dict[str, Switches] = {}

    def relu(node: Node, value: Affine) -> Affine:
        after, switches[node.name] = _relu(milp, bounds[node.inputs[0]], value)
        return after

    return Evaluation(network, _walk(network, x, relu, offsets=True), switches)


def difference(
    milp: Milp,
    evaluation: Evaluation,
    bounds: LayerBounds,
    slopes: Mapping[str, np.ndarray],
    step: Affine,
    reach: float,
) -> Affine:
    """``(f(x + t step) - f(x)) / t`` for some ``0 < t <= reach``, with ``x`` the evaluation's input.

    A neuron whose pre-activation moves by ``t d`` moves by ``t d`` where it is active at both ends, by nothing where it
    is inactive at both, and by something between where its sign changes; then ``-reach d <= a <= 0`` (or the other
    way round), with ``a`` its pre-activation at ``x``. ``t`` itself is gone, so all pairs of points closer than
    ``reach``, however close, satisfy these rows. They are a relaxation: neurons that change may move by any share of
    ``d``. ``slopes`` bound ``|d|`` by node (:func:`slope_bounds`).
    """

    def relu(node: Node, value: Affine) -> Affine:
        source, found = node.inputs[0], evaluation.switches[node.name]
        always = np.flatnonzero(_flat(bounds[source])[0] >= 0)
        moved = _moved(milp, value[found.at], found, slopes[source][found.at], reach)
        return value[always].placed(always, len(value)) + moved.placed(found.at, len(value))

    return _walk(evaluation.network, step, relu, offsets=False)[evaluation.network.output.name]


def _walk(network: Network, x: Affine, relu: Callable[[Node, Affine], Affine], offsets: bool) -> dict[str, Affine]:
    values = {network.input.name: x}
    for node in network.nodes[1:]:
        if isinstance(node.operator, AffineOperator):
            values[node.name] = _affine(network, node.operator, [values[name] for name in node.inputs], offsets)
        elif node.is_relu:
            values[node.name] = relu(node, values[node.inputs[0]])
        else:
            kind = node.operator.kind
            raise InputError(f"node '{node.name}': {kind} is neither affine nor a ReLU, which is all a program can say")
    return values


def _affine(network: Network, operator: AffineOperator, inputs: Sequence[Affine], offsets: bool) -> Affine:
    parts = [value.through(sparse_matrix(operator, network, i)) for i, value in enumerate(inputs)]
    value = parts[0]
    for part in parts[1:]:
        value = value + part
    if offsets and operator.offset is not None:
        value = value.plus(operator.offset.flatten().double().cpu().numpy())
    return value


def _flat(bounds: Bounds) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of one region, flat, moved outwards by what rounding may have added to the rows that define the value."""
    low, high = (v[0].flatten().double().cpu().numpy() for v in (bounds.lower, bounds.upper))
    slack = ROUNDING * np.maximum(np.abs(low), np.abs(high))
    return np.where(low < 0, low - slack, low), np.where(high > 0, high + slack, high)


def _relu(milp: Milp, bounds: Bounds, value: Affine) -> tuple[Affine, Switches]:
    low, high = _flat(bounds)
    always, at = np.flatnonzero(low >= 0), np.flatnonzero((low < 0) & (high > 0))
    kept = np.concatenate([always, at])
    before = milp.named(value[kept], low[kept], high[kept])
    steady, open_ = before[np.arange(len(always))], before[np.arange(len(always), len(kept))]
    after, active = milp.new(np.zeros(len(at)), high[at]), milp.binaries(len(at))
    milp.require(after - open_, lower=0.0)
    milp.require(after - high[at] * active, upper=0.0)
    milp.require(after - open_ - low[at] * active, upper=-low[at])
    found = Switches(at, low[at], high[at], open_, active, tuple(_twins(value[at])))
    found.tie(milp, open_, after)
    return steady.placed(always, len(low)) + after.placed(at, len(low)), found


def _moved(milp: Milp, value: Affine, found: Switches, slope: np.ndarray, reach: float) -> Affine:
    """How far the neurons that can be either move, each within ``[-slope, slope]``."""
    move = milp.named(value, -slope, slope)
    after, changes = milp.new(-slope, slope), milp.binaries(len(found.at))
    active, a = found.active, found.before
    # Not changing: after = move if active, 0 if not.
    milp.require(after - move + slope * (active - changes), upper=slope)
    milp.require(after - move - slope * (active - changes), lower=-slope)
    milp.require(after - slope * (active + changes), upper=0.0)
    milp.require(after + slope * (active + changes), lower=0.0)
    # Changing from inactive (rising): 0 <= after <= move and -reach move <= a. From active (falling): the mirror image.
    rising, falling = changes - active, changes + active  # 1 and 2 where it is so
    milp.require(after - slope * rising, lower=-slope)
    milp.require(move - after - slope * rising, lower=-slope)
    milp.require(after + slope * falling, upper=2 * slope)
    milp.require(move - after + slope * falling, upper=2 * slope)
    found.tie(milp, move, after)
    below, above = -found.low + reach * slope, found.high + reach * slope
    milp.require(a + reach * move - below * rising, lower=-below)
    milp.require(a + reach * move + above * falling, upper=2 * above)
    return after


def _twins(value: Affine) -> Iterator[tuple[int, int, float]]:
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


def slope_bounds(network: Network, bounds: LayerBounds) -> dict[str, np.ndarray]:
    """For every node, how fast each entry can move when the input moves at speed one in the maximum norm.

    Interval arithmetic on the Jacobian, one column an input, with a slope in [0, 1] for every ReLU that can be either;
    the sums of what the entries of a row can be at most.
    """
    size, shape = network.size(network.input.name), network.input.shape
    middle: dict[str, Tensor] = {network.input.name: torch.eye(size, dtype=torch.float64).reshape(size, *shape)}
    spread: dict[str, Tensor] = {network.input.name: torch.zeros(size, *shape, dtype=torch.float64)}
    for node in network.nodes[1:]:
        operator, sources = node.operator, node.inputs
        if isinstance(operator, AffineOperator):
            middle[node.name] = operator.linear(*(middle[name] for name in sources))
            rounding = operator.abs_linear(*(middle[name].abs() for name in sources))
            spread[node.name] = operator.abs_linear(*(spread[name] for name in sources)) + ROUNDING * rounding
        else:
            low, high = (v[0] for v in (bounds[sources[0]].lower, bounds[sources[0]].upper))
            least, most = middle[sources[0]] - spread[sources[0]], middle[sources[0]] + spread[sources[0]]
            least = torch.where(low >= 0, least, torch.where(high <= 0, 0.0, least.clamp(max=0.0)))
            most = torch.where(low >= 0, most, torch.where(high <= 0, 0.0, most.clamp(min=0.0)))
            middle[node.name], spread[node.name] = (most + least) / 2, (most - least) / 2
    return {name: (middle[name].abs() + spread[name]).sum(0).flatten().numpy() * (1 + ROUNDING) for name in middle}
