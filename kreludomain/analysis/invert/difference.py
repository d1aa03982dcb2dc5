"""The difference of a network's values at two close points, as rows of a mixed-integer program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from kreludomain.domain import LayerBounds
from kreludomain.network import Network, Node
from kreludomain.network.operators import AffineOperator
from kreludomain.programs import Affine, ExactNetwork, Model, NetworkEncoder, UnstableRelus
from kreludomain.rounding import ROUNDING


def difference(
    model: Model,
    exact: ExactNetwork,
    bounds: LayerBounds,
    slopes: Mapping[str, np.ndarray],
    step: Affine,
    reach: float,
) -> Affine:
    """``(f(x + t step) - f(x)) / t`` for some ``0 < t <= reach``, with ``x`` the input of the exact network.

    A neuron whose pre-activation moves by ``t d`` moves by ``t d`` where it is active at both ends, by nothing where it
    is inactive at both, and by something between where its sign changes; then ``-reach d <= a <= 0`` (or the other
    way round), with ``a`` its pre-activation at ``x``. ``t`` itself is gone, so all pairs of points closer than
    ``reach``, however close, satisfy these rows. They are a relaxation: neurons that change may move by any share of
    ``d``. ``slopes`` bound ``|d|`` by node (:func:`slope_bounds`).
    """
    encoder = DifferenceEncoder(model, exact.network, bounds, unstable=exact.unstable, slopes=slopes, reach=reach)
    return encoder.encode(step)[exact.network.output.name]


@dataclass
class DifferenceEncoder(NetworkEncoder):
    """Encodes differences of values at two points, over the ReLUs of the network at one of them."""

    unstable: Mapping[str, UnstableRelus] = field(default_factory=dict)
    slopes: Mapping[str, np.ndarray] = field(default_factory=dict)
    reach: float = 0.0

    offsets = False

    def relu(self, node: Node) -> Affine:
        source, found = node.inputs[0], self.unstable[node.name]
        value, low = self.values[source], self.flat_bounds(source)[0]
        active = np.flatnonzero(low >= 0)
        moved = self._moved(value[found.at], found, self.slopes[source][found.at])
        return value[active].placed(active, len(value)) + moved.placed(found.at, len(value))

    def _moved(self, value: Affine, found: UnstableRelus, slope: np.ndarray) -> Affine:
        """The differences of unstable neurons' values, each within ``[-slope, slope]``."""
        model, reach = self.model, self.reach
        move = model.at(model.define(value, -slope, slope))
        after, changes = model.variables(-slope, slope), model.binaries(len(found.at))
        active, a = found.active, found.before
        # Not changing: after = move if active, 0 if not.
        model.require(after - move + slope * (active - changes), upper=slope)
        model.require(after - move - slope * (active - changes), lower=-slope)
        model.require(after - slope * (active + changes), upper=0.0)
        model.require(after + slope * (active + changes), lower=0.0)
        # Changing from inactive (rising): 0 <= after <= move and -reach move <= a. From active (falling): mirrored.
        rising, falling = changes - active, changes + active  # 1 and 2 where it is so
        model.require(after - slope * rising, lower=-slope)
        model.require(move - after - slope * rising, lower=-slope)
        model.require(after + slope * falling, upper=2 * slope)
        model.require(move - after + slope * falling, upper=2 * slope)
        found.require_proportional(model, move, after)
        below, above = -found.low + reach * slope, found.high + reach * slope
        model.require(a + reach * move - below * rising, lower=-below)
        model.require(a + reach * move + above * falling, upper=2 * above)
        return after


def slope_bounds(network: Network, bounds: LayerBounds) -> dict[str, np.ndarray]:
    """For every node, how fast each entry can move when the input moves at speed one in the maximum norm.

    Interval arithmetic on the Jacobian, one column an input, with a slope in [0, 1] for every unstable ReLU; the sums
    of the largest sizes of the entries of a row.
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
