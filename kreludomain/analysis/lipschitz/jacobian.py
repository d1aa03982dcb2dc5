"""Jacobians by backward propagation: at points, and bounds of every Jacobian over a region.

Along a segment of a convex region, a piecewise linear function changes by the average of its Jacobians there, so a
bound of all their norms is a Lipschitz constant. A stable neuron has slope 0 or 1; an unstable one has a slope in
[0, 1] (Weng et al., ICML 2018; Zhang, Zhang and Hsieh, AAAI 2019, propagate the same intervals forwards).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kreludomain.analysis.lipschitz.norms import absolute_transpose
from kreludomain.domain import Bounds
from kreludomain.network import Network
from kreludomain.network.operators import Activation, AffineOperator
from kreludomain.rounding import ROUNDING

#: Entries of the coefficients held at once: rows are propagated in parts.
MAX_ENTRIES = 2**24


def rows_of(network: Network, rows: Tensor | None) -> Tensor:
    """The functions to differentiate, ``(m, outputs)``: ``rows``, or all outputs for ``None``."""
    if rows is None:
        return torch.eye(network.size(network.output.name), dtype=network.dtype)
    return rows.to(network.dtype)


@torch.no_grad()
def jacobians(network: Network, x: Tensor, rows: Tensor | None = None) -> Tensor:
    """``rows . f'(x)``, ``(N, m, inputs)``, at points ``(N, *input_shape)``; a ReLU at exactly zero has slope 0."""
    rows = rows_of(network, rows)
    values = network.values(x)
    pending = {network.output.name: rows.expand(len(x), -1, -1).reshape(len(x), len(rows), *network.output.shape)}
    for node in reversed(network.nodes[1:]):
        a = pending.pop(node.name, None)
        if a is None:
            continue
        if isinstance(node.operator, AffineOperator):
            to_inputs, _ = node.operator.backward(a)
        else:
            to_inputs = (a * (values[node.inputs[0]] > 0)[:, None],)
        for name, part in zip(node.inputs, to_inputs, strict=True):
            pending[name] = pending[name] + part if name in pending else part
    return pending[network.input.name].flatten(2)


def jacobian_bounds(network: Network, bounds: Mapping[str, Bounds], rows: Tensor | None = None) -> Bounds:
    """Bounds of ``rows . f'(x)``, ``(B, m, inputs)``, over all ``x`` of ``B`` regions.

    ``bounds`` are sound bounds of every pre-activation over the regions; ``rows`` is ``(m, outputs)``, or ``None`` for
    all outputs. Raises :class:`InputError` where an activation is not a ReLU.
    """
    network.require_relus("bounds of Jacobians")
    rows = rows_of(network, rows)
    batch = bounds[network.output.name].lower.shape[0]
    widest = max(network.size(node.name) for node in network.nodes)
    parts = [_backwards(network, bounds, part, batch) for part in rows.split(max(1, MAX_ENTRIES // (widest * batch)))]
    lower, upper = (torch.cat([getattr(part, side) for part in parts], dim=1) for side in ("lower", "upper"))
    return Bounds(lower, upper)


@torch.no_grad()
def _backwards(network: Network, bounds: Mapping[str, Bounds], rows: Tensor, batch: int) -> Bounds:
    start = rows.expand(batch, -1, -1).reshape(batch, len(rows), *network.output.shape)
    # centre and radius of the coefficients on each node's value
    pending = {network.output.name: (start, torch.zeros_like(start))}
    for node in reversed(network.nodes[1:]):
        if node.name not in pending:
            continue
        centre, radius = pending.pop(node.name)
        if isinstance(node.operator, Activation):
            to_inputs = [_through_slopes(bounds[node.inputs[0]], centre, radius)]
        else:
            to_inputs = _transposed(node.operator, centre, radius)
        for name, (c, r) in zip(node.inputs, to_inputs, strict=True):
            if name in pending:
                c, r = c + pending[name][0], r + pending[name][1]
            pending[name] = (c, r)
    centre, radius = (value.flatten(2) for value in pending[network.input.name])
    radius = radius + ROUNDING * (centre.abs() + radius)
    return Bounds.computed(centre - radius, centre + radius)


def _through_slopes(bounds: Bounds, centre: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients times slopes: 0 or 1 for stable neurons, the interval [0, 1] for unstable ones."""
    unstable, active = bounds.unstable[:, None], (bounds.lower >= 0).to(centre.dtype)[:, None]
    low, high = (centre - radius).clamp(max=0), (centre + radius).clamp(min=0)
    return torch.where(unstable, (low + high) / 2, centre * active), torch.where(
        unstable, (high - low) / 2, radius * active
    )


def _transposed(operator: object, centre: Tensor, radius: Tensor) -> list[tuple[Tensor, Tensor]]:
    if not isinstance(operator, AffineOperator):
        raise TypeError(f"{type(operator).__name__} has no slopes")
    batch, rows = centre.shape[:2]
    centres, _ = operator.backward(centre)
    widened = radius + ROUNDING * (centre.abs() + radius)  # rounding errors of the transposed centre
    radii = absolute_transpose(operator, widened.flatten(0, 1))
    return [(c, r.unflatten(0, (batch, rows))) for c, r in zip(centres, radii, strict=True)]
