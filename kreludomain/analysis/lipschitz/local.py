"""Certified Lipschitz constants over a region, from bounds of the activations there.

Two bounds of all Jacobians are made, and the smaller norm counts:

- *entries*: intervals of the Jacobian's entries (:mod:`.jacobian`); right for ``l_1`` and ``l_inf``, where norms are
  sums of magnitudes, and where few neurons are unstable;
- *ball* (``l_2`` only): a matrix and a spectral radius around it. A diagonal of slopes in [0, 1] is ``I/2`` and
  something of norm at most 1/2 on unstable
  neurons, so a layer ``A`` and the slopes below it take ``{C + E : ||E|| <= r}`` to

      C' = C A D,    r' = r ||A_live|| + ||(C A)_unstable|| / 2,

  with ``D`` the middle slopes, ``A_live`` the columns of neurons that are not inactive, and those of unstable ones in
  the last term. Magnitudes are not added entry by entry, so it is the better one where many neurons are unstable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from kreludomain.analysis.lipschitz.affine import AffineMap, layers
from kreludomain.analysis.lipschitz.jacobian import jacobian_bounds, rows_of
from kreludomain.analysis.lipschitz.norms import SLACK, dual, map_norm, matrix_norm, norm_of
from kreludomain.domain import Bounds
from kreludomain.network import Network
from kreludomain.network.operators import Activation
from kreludomain.rounding import ROUNDING

#: Entries of a layer's matrix up to which its columns are told apart; larger layers count with their whole norm.
ENTRIES = 2**22


class LocalBounds:
    """Certified constants of a network over regions; what belongs to the network alone is computed once."""

    def __init__(self, network: Network) -> None:
        self.network = network.to(dtype=torch.float64, device="cpu")
        self._layers = {layer.target.name: layer for layer in layers(self.network)}
        self._norms: dict[tuple[str, str], float] = {}

    def constant(self, bounds: Mapping[str, Bounds], p: float | str = 2) -> float:
        """A Lipschitz constant of the network, ``l_p`` to ``l_p``, over one region.

        ``bounds`` are sound bounds over the region (a batch of one) of every node that an activation takes.
        """
        order = norm_of(p)
        entries = jacobian_bounds(self.network, bounds)
        largest = _magnitudes(entries)[0]
        found = matrix_norm(largest, order)
        if order != 2:
            return found
        radius = matrix_norm(entries.width[0] / 2, 2)
        found = min(found, matrix_norm((entries.lower + entries.upper)[0] / 2, 2) + radius)
        centre, distance = self._ball(bounds, rows_of(self.network, None), _spectral)
        return min(found, matrix_norm(centre, 2) + float(distance[0]))

    def gradients(self, bounds: Mapping[str, Bounds], rows: Tensor, p: float | str = 2) -> Tensor:
        """A Lipschitz constant, ``l_p`` to the real line, of each of ``rows . f``, ``(m,)``, over one region.

        These are bounds of the gradients' dual norms: a margin ``m`` at the region's middle stays positive within
        ``m / constant`` of it in ``l_p``, as far as the region goes.
        """
        order = norm_of(p)
        largest = _magnitudes(jacobian_bounds(self.network, bounds, rows))[0]
        found = torch.linalg.vector_norm(largest, ord=dual(order), dim=1) * (1 + SLACK)
        if order != 2:
            return found
        centre, distance = self._ball(bounds, rows_of(self.network, rows), _row_lengths)
        return torch.minimum(found, torch.linalg.vector_norm(centre, dim=1) * (1 + SLACK) + distance)

    @torch.no_grad()
    def _ball(
        self, bounds: Mapping[str, Bounds], rows: Tensor, length: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The centre ``(m, inputs)`` and, measured by ``length``, how far from it Jacobians may be."""
        pending: _States = {self.network.output.name: (rows, torch.zeros_like(length(rows)))}
        for node in reversed(self.network.nodes[1:]):
            if node.name not in pending:
                continue
            centre, distance = pending.pop(node.name)
            if isinstance(node.operator, Activation):
                slopes = bounds[node.inputs[0]]
                open_ = slopes.unstable.flatten()
                middle = torch.where(open_, 0.5, (slopes.lower >= 0).flatten().to(centre.dtype))
                _add(pending, node.inputs[0], centre * middle, distance + length(centre[:, open_]) / 2)
                continue
            for mapping in self._layers[node.name].maps:
                pulled = mapping.transpose(centre.reshape(-1, *mapping.out_shape)).flatten(1)
                widened = distance + ROUNDING * length(centre)  # what rounding may do to the new centre
                _add(pending, mapping.source.name, pulled, widened * self._live_norm(mapping, bounds))
        return pending[self.network.input.name]

    def _live_norm(self, mapping: AffineMap, bounds: Mapping[str, Bounds]) -> float:
        """The spectral norm of a layer without the columns of neurons that are inactive all over the region."""
        if isinstance(mapping.source.operator, Activation) and math.prod(mapping.size) <= ENTRIES:
            live = (bounds[mapping.source.inputs[0]].upper > 0).flatten()
            if not bool(live.all()):
                return matrix_norm(mapping.matrix[:, live], 2)
        key = (mapping.source.name, mapping.target.name)
        if key not in self._norms:
            self._norms[key] = map_norm(mapping, 2).upper
        return self._norms[key]


#: Centre and distance by the name of the node whose value the coefficients are on.
_States = dict[str, tuple[Tensor, Tensor]]


def _add(pending: _States, name: str, centre: Tensor, distance: Tensor) -> None:
    if name in pending:
        centre, distance = centre + pending[name][0], distance + pending[name][1]
    pending[name] = (centre, distance)


def _magnitudes(entries: Bounds) -> Tensor:
    """The largest magnitude of each entry."""
    return torch.maximum(entries.lower.abs(), entries.upper.abs())


def _spectral(matrix: Tensor) -> Tensor:
    """The spectral norm, ``(1,)``: all rows together."""
    return matrix.new_tensor([matrix_norm(matrix, 2)])


def _row_lengths(matrix: Tensor) -> Tensor:
    """The length of each row, ``(m,)``."""
    return torch.linalg.vector_norm(matrix, dim=1) * (1 + SLACK)
