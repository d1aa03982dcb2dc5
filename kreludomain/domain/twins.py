"""The relaxation of twin ReLUs: a difference of post-activations, bounded by that of the pre-activations.

For ``d = x_i - x_j``, ``min(d, 0) <= ReLU(x_i) - ReLU(x_j) <= max(d, 0)``. Where coefficients on twins are of opposite
signs, the part that they share is a multiple of ``y_i - y_j``, and is bounded by a line in ``d``: it costs no more than
the difference, however wide the neurons' own bounds are. The rest is relaxed neuron by neuron.
Differential verification rests on this: Paulsen, Wang, Wang, "ReluDiff" (ICSE 2020); Paulsen, Wang, Wang, Wang,
"NeuroDiff" (ASE 2020), whose convex relaxation of a difference it is. Here it acts in the one back-substitution of all
methods, on any network that has twins.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.activations import ReluRelaxation
from kreludomain.domain.bounds import Bounds
from kreludomain.network import Network
from kreludomain.property import Objective


def differences(network: Network, node: str, pairs: Tensor) -> Objective:
    """``x_i - x_j`` of pairs ``(P, 2)`` of a node's neurons, one objective each."""
    rows = torch.zeros(len(pairs), network.size(node), dtype=network.dtype, device=network.device)
    rows.scatter_(1, pairs[:, :1], 1.0).scatter_(1, pairs[:, 1:], -1.0)
    return Objective.linear(network, node, rows)


@dataclass(frozen=True, eq=False)
class TwinLines:
    """Lines below ``y_i - y_j`` and ``y_j - y_i`` of ``P`` pairs of neurons ``(i, j)``, in ``d = x_i - x_j``.

    ``pairs`` ``(P, 2)`` are flat positions. ``y_i - y_j >= slope_below * d - loss`` and ``y_i - y_j <= slope_above * d
    + loss``. ``half_width`` is half of what ``d`` may vary by; all are ``(B, P)``. ``used``, 0 or 1: pairs whose lines
    lose less than those of either neuron alone.
    """

    pairs: Tensor
    slope_below: Tensor
    slope_above: Tensor
    loss: Tensor
    half_width: Tensor
    used: Tensor

    @classmethod
    def of(cls, pairs: Tensor, difference: Bounds, pre: Bounds) -> TwinLines:
        """From the bounds ``(B, P)`` of the pairs' differences, and those of the neurons, ``(B, *shape)``."""
        lower, upper = (v.flatten(1)[:, pairs] for v in (pre.lower, pre.upper))
        low = torch.maximum(difference.lower, lower[..., 0] - upper[..., 1]).clamp(max=0)
        high = torch.minimum(difference.upper, upper[..., 0] - lower[..., 1]).clamp(min=0)
        width = (high - low).clamp(min=torch.finfo(low.dtype).tiny)
        below = -low / width
        loss = below * high
        chord = torch.where((lower < 0) & (upper > 0), -lower * upper / (upper - lower), 0.0).amin(2)
        return cls(pairs, below, high / width, loss, width / 2, (loss < chord).to(loss))

    def shared(self, coefficients: Tensor) -> Tensor:
        """The part of coefficients ``(B, m, n)`` that both of each pair share with opposite signs, ``(B, m, P)``: it is
        the coefficient of ``y_i - y_j``."""
        first, second = coefficients[..., self.pairs[:, 0]], coefficients[..., self.pairs[:, 1]]
        most = torch.minimum(first.clamp(min=0), -second.clamp(max=0))
        least = torch.maximum(first.clamp(max=0), -second.clamp(min=0))
        return (most + least) * self.used[:, None]

    def slope(self, shared: Tensor) -> Tensor:
        """The slope of the line that bounds ``y_i - y_j`` where its coefficient is ``shared`` ``(B, m, P)``."""
        return torch.where(shared > 0, self.slope_below[:, None], self.slope_above[:, None])

    def placed(self, values: Tensor, size: int) -> Tensor:
        """``values`` ``(B, m, P)`` at the first neuron of each pair, negated at the second: ``(B, m, size)``."""
        result = values.new_zeros(*values.shape[:2], size)
        result[..., self.pairs[:, 0]] = values
        result[..., self.pairs[:, 1]] = -values
        return result

    def to(self, device: torch.device, dtype: torch.dtype) -> TwinLines:
        """The same lines on another device, in another dtype."""
        moved = {f.name: getattr(self, f.name).to(device) for f in dataclasses.fields(self)}
        return TwinLines(**{name: v.to(dtype) if v.is_floating_point() else v for name, v in moved.items()})


@dataclass(frozen=True, eq=False)
class TwinRelaxation:
    """A ReLU that is relaxed by ``single`` neuron by neuron, but for what twins share."""

    single: ReluRelaxation
    lines: TwinLines

    def backward(self, coefficients: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        flat = coefficients.flatten(2)
        shared = self.lines.shared(flat)
        rest = flat - self.lines.placed(shared, flat.shape[2])
        (passed,), constant = self.single.backward(rest.unflatten(2, coefficients.shape[2:]))
        of_pairs = self.lines.placed(shared * self.lines.slope(shared), flat.shape[2])
        loss = (shared.abs() * self.lines.loss[:, None]).sum(2)
        return (passed + of_pairs.view(passed.shape),), constant - loss

    def losses(self, coefficients: Tensor) -> Tensor:
        """As :meth:`ReluRelaxation.losses`; what twins lose together counts half for each."""
        shared, size = self.lines.shared(coefficients), coefficients.shape[2]
        of_pairs = self.lines.placed(shared.abs() * self.lines.loss[:, None] / 2, size).abs()
        return self.single.losses(coefficients - self.lines.placed(shared, size)) + of_pairs
