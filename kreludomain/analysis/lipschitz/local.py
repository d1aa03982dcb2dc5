"""Certified Lipschitz constants over a region, from bounds of the pre-activations there.

Two sets that contain all Jacobians are propagated backwards, and the smaller norm counts:

- *entries*: an interval for each entry of the Jacobian (:mod:`.jacobian`); good for ``l_1`` and ``l_inf``, whose norms
  are sums of absolute values, and where few neurons are unstable;
- *ball* (``l_2`` only): a centre matrix and a spectral-norm radius around it. On unstable neurons the diagonal matrix
  of slopes in [0, 1] is ``I/2`` plus a matrix of norm at most 1/2, so a layer ``A`` and the slopes below it map
  ``{C + E : ||E|| <= r}`` into the ball with

      C' = C A D,    r' = r ||A_active|| + ||(C A)_unstable|| / 2,

  where ``D`` has the slopes 0, 1/2 (unstable) and 1, ``A_active`` are the columns of neurons that are not always
  inactive, and ``_unstable`` picks the columns of unstable ones. No absolute values are added entry by entry, so the
  ball is the better set where many neurons are unstable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from kreludomain.analysis.lipschitz.affine import AffineMap, layers
from kreludomain.analysis.lipschitz.jacobian import jacobian_bounds, rows_of
from kreludomain.analysis.lipschitz.norms import NORM_TOL, dual, map_norm, matrix_norm, norm_of
from kreludomain.domain import Bounds
from kreludomain.network import Network
from kreludomain.network.operators import Activation
from kreludomain.rounding import ROUNDING

#: Entries of a layer's matrix up to which inactive columns are left out of its norm; larger ones count as a whole.
MAX_ENTRIES = 2**22


class LocalBounds:
    """Certified constants of a network over regions; norms that do not depend on the region are computed once."""

    def __init__(self, network: Network) -> None:
        self.network = network.to(dtype=torch.float64, device="cpu")
        self._layers = {layer.target.name: layer for layer in layers(self.network)}
        self._norms: dict[tuple[str, str], float] = {}

    def constant(self, bounds: Mapping[str, Bounds], p: float | str = 2) -> float:
        """A Lipschitz constant of the network, ``l_p`` to ``l_p``, over one region.

        ``bounds`` are sound bounds over the region (a batch of one) of every pre-activation.
        """
        order = norm_of(p)
        entries = jacobian_bounds(self.network, bounds)
        largest = _max_abs(entries)[0]
        found = matrix_norm(largest, order)
        if order != 2:
            return found
        middle, half_width = (entries.lower + entries.upper)[0] / 2, entries.width[0] / 2
        found = min(found, matrix_norm(middle, 2) + matrix_norm(half_width, 2))
        centre, radius = self._ball(bounds, rows_of(self.network, None), _spectral_norm)
        return min(found, matrix_norm(centre, 2) + float(radius[0]))

    def gradients(self, bounds: Mapping[str, Bounds], rows: Tensor, p: float | str = 2) -> Tensor:
        """A Lipschitz constant, ``l_p`` to the real line, of each of ``rows . f``, ``(m,)``, over one region.

        These are bounds of the gradients' dual norms: a margin ``m`` at the region's centre stays positive within
        ``m / constant`` of it in ``l_p``, within the region.
        """
        order = norm_of(p)
        largest = _max_abs(jacobian_bounds(self.network, bounds, rows))[0]
        found: Tensor = torch.linalg.vector_norm(largest, ord=dual(order), dim=1) * (1 + NORM_TOL)
        if order != 2:
            return found
        centre, radius = self._ball(bounds, rows_of(self.network, rows), _row_norms)
        return torch.minimum(found, torch.linalg.vector_norm(centre, dim=1) * (1 + NORM_TOL) + radius)

    @torch.no_grad()
    def _ball(
        self, bounds: Mapping[str, Bounds], rows: Tensor, length: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The centre ``(m, inputs)`` and the radius around it, in the norm ``length``, of a ball with all Jacobians."""
        pending: _Balls = {self.network.output.name: (rows, torch.zeros_like(length(rows)))}
        for node in reversed(self.network.nodes[1:]):
            if node.name not in pending:
                continue
            centre, radius = pending.pop(node.name)
            if isinstance(node.operator, Activation):
                pre = bounds[node.inputs[0]]
                unstable = pre.unstable.flatten()
                slope = torch.where(unstable, 0.5, (pre.lower >= 0).flatten().to(centre.dtype))
                _add(pending, node.inputs[0], centre * slope, radius + length(centre[:, unstable]) / 2)
                continue
            for mapping in self._layers[node.name].maps:
                pulled = mapping.transpose(centre.reshape(-1, *mapping.out_shape)).flatten(1)
                widened = radius + ROUNDING * length(centre)  # rounding errors of the new centre
                _add(pending, mapping.source.name, pulled, widened * self._active_norm(mapping, bounds))
        return pending[self.network.input.name]

    def _active_norm(self, mapping: AffineMap, bounds: Mapping[str, Bounds]) -> float:
        """The spectral norm of a layer without the columns of neurons that are inactive on the whole region."""
        if isinstance(mapping.source.operator, Activation) and math.prod(mapping.size) <= MAX_ENTRIES:
            active = (bounds[mapping.source.inputs[0]].upper > 0).flatten()
            if not bool(active.all()):
                return matrix_norm(mapping.matrix[:, active], 2)
        key = (mapping.source.name, mapping.target.name)
        if key not in self._norms:
            self._norms[key] = map_norm(mapping, 2).upper
        return self._norms[key]


#: Centre and radius of the coefficients on each node's value, by the node's name.
_Balls = dict[str, tuple[Tensor, Tensor]]


def _add(pending: _Balls, name: str, centre: Tensor, radius: Tensor) -> None:
    if name in pending:
        centre, radius = centre + pending[name][0], radius + pending[name][1]
    pending[name] = (centre, radius)


def _max_abs(entries: Bounds) -> Tensor:
    """The largest absolute value of each entry."""
    return torch.maximum(entries.lower.abs(), entries.upper.abs())


def _spectral_norm(matrix: Tensor) -> Tensor:
    """The spectral norm of the matrix, ``(1,)``."""
    return matrix.new_tensor([matrix_norm(matrix, 2)])


def _row_norms(matrix: Tensor) -> Tensor:
    """The ``l_2`` norm of each row, ``(m,)``."""
    result: Tensor = torch.linalg.vector_norm(matrix, dim=1) * (1 + NORM_TOL)
    return result
