"""CROWN (Zhang et al., NeurIPS 2018) over many small boxes at once, for branch and bound over inputs.

The same few rows are bounded over thousands of boxes, each inside a box that was bounded before. A neuron whose sign
was decided there needs no bounds any more, so only undecided neurons are back-substituted, box by box. A row is
returned as a linear expression in the input, below it everywhere in its box, not only as that expression's minimum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.activations import BackwardRelaxation, Relu, ReluRelaxation
from kreludomain.domain.backward import back_substitute
from kreludomain.domain.bounds import Bounds
from kreludomain.domain.deeppoly import DeepPoly
from kreludomain.domain.query import Query
from kreludomain.domain.rounding import Rounding
from kreludomain.domain.twins import TwinLines, TwinRelaxation, differences
from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.property import Objective, Region


@dataclass(frozen=True, eq=False)
class LinearForms:
    """Linear lower bounds of rows over boxes: ``coefficients . x + constant`` is at most the row, for each ``x``.

    ``coefficients`` ``(B, m, inputs)``, ``constant`` ``(B, m)``; rounding of both is taken off the constant.
    """

    coefficients: Tensor
    constant: Tensor

    def concretise(self, region: Region) -> Tensor:
        """Lower bounds of the rows over the boxes, ``(B, m)``."""
        return self.constant + region.concretise(self.coefficients.unflatten(2, region.shape))

    def __or__(self, other: LinearForms) -> LinearForms:
        """The rows of both."""
        both = zip((self.coefficients, self.constant), (other.coefficients, other.constant), strict=True)
        return LinearForms(*(torch.cat(pair, dim=1) for pair in both))

    def __getitem__(self, boxes: Tensor) -> LinearForms:
        return LinearForms(self.coefficients[boxes], self.constant[boxes])


@dataclass(frozen=True, eq=False)
class RootRelaxation:
    """The box that all boxes are parts of. Its bounds hold in each of them.

    ``neurons``: by the name of a pre-activation, its neurons as objectives at the node that they are pulled back to;
    ``rounding_error`` ``(1, n)``: of pulling them back. ``rounding`` is taken from the bounds over the root box: they
    only scale errors of about 1e-16, so it does not matter that those of a small box are tighter.
    """

    rounding: Rounding
    neurons: Mapping[str, Objective]
    rounding_error: Mapping[str, Tensor]

    @classmethod
    @torch.no_grad()
    def of(cls, network: Network, region: Region) -> RootRelaxation:
        """The root relaxation over ``region``, a batch of one."""
        rounding = DeepPoly(neurons="unstable").abstract(Query(network, region)).rounding
        neurons, rounding_error = dict[str, Objective](), dict[str, Tensor]()
        for name in network.pre_activations:
            ahead = Objective.neurons(network, name, torch.arange(network.size(name))).pulled_back(network)
            neurons[name] = Objective(ahead.node, ahead.coefficients, ahead.constant)
            rounding_error[name] = torch.zeros_like(ahead.constant) + rounding.start_error(ahead)
        return cls(rounding, neurons, rounding_error)

    def select(self, name: str, positions: Tensor, sign: float) -> Objective:
        """Objectives for the neurons at ``positions`` ``(B, k)`` of a pre-activation, other ones in each box; ``sign``
        is 1 or -1."""
        objective = self.neurons[name]
        coefficients, constant = (sign * part[0][positions] for part in (objective.coefficients, objective.constant))
        return Objective(objective.node, coefficients, constant - self.rounding_error[name][0][positions])

    def intersect(self, name: str, positions: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds ``(B, k)`` of neurons in boxes, intersected with those over the root box, as ``rounding`` assumes."""
        known = self.rounding.bounds[name]
        return (
            torch.fmax(lower, known.lower.flatten()[positions]),
            torch.fmin(upper, known.upper.flatten()[positions]),
        )


class _InputRelaxation:
    """Stands for the input in a back-substitution, and stores the coefficients that arrive instead of concretising."""

    def __init__(self, region: Region) -> None:
        self.coefficients = region.lower.new_zeros(region.batch, 1, 1)
        self._region = region

    def backward(self, coefficients: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        self.coefficients = coefficients.flatten(2).expand(self._region.batch, -1, -1)
        return (), coefficients.new_zeros(coefficients.shape[:2])


@dataclass(frozen=True, eq=False)
class _WidthShares:
    """Undecided neurons of a layer, ``positions`` ``(B, k)``, and how their widths are shared among the ``n`` inputs.

    ``parts`` ``(B, k, n)`` of a neuron add up to 1. A box with fewer than ``k`` undecided neurons is padded with
    neurons whose relaxation is exact.
    """

    positions: Tensor
    parts: Tensor


@dataclass(frozen=True, eq=False)
class _ScoredRelaxation:
    """A relaxation that adds to ``losses`` ``(B, m, inputs)`` how much it may lose, shared among the inputs.

    A neuron may lose its coefficient times the chord's height at zero.
    """

    relaxation: ReluRelaxation | TwinRelaxation
    shares: _WidthShares
    losses: Tensor

    def backward(self, coefficients: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        loss = self.relaxation.losses(coefficients.flatten(2))
        chosen = self.shares.positions[:, None].expand(-1, loss.shape[1], -1)
        self.losses.add_(loss.expand(len(chosen), -1, -1).gather(2, chosen) @ self.shares.parts)
        return self.relaxation.backward(coefficients)


@dataclass(frozen=True, eq=False)
class BatchedCrown:
    """The relaxation of a ReLU network over ``B`` boxes, with which rows at the output are bounded.

    ``signs`` ``(B, neurons)``, int8, layers one after another: 1 where a ReLU's input cannot be negative, -1 where it
    cannot be positive, 0 where its sign is not known. ``finite`` ``(B,)``: the boxes in which all bounds are finite; in
    the others, rows are NaN, which proves nothing.
    """

    network: Network
    region: Region
    root: RootRelaxation
    signs: Tensor
    finite: Tensor
    relaxations: Mapping[str, ReluRelaxation | TwinRelaxation]
    shares: Mapping[str, _WidthShares]

    def rows(self, objective: Objective) -> LinearForms:
        """Lower bounds of the objectives as linear expressions in the input."""
        return self._checked(_forms(self.network, objective, self.relaxations, self.region, self.root))

    def scored_rows(self, objective: Objective) -> tuple[LinearForms, Tensor]:
        """As :meth:`rows`, and a score of each input ``(B, m, inputs)``: how much its width may cost a row's bound.

        The score is an estimate, for choosing the input to split: how much a neuron's triangle may lose, times the
        row's coefficient on the neuron, is shared among the inputs as the neuron's width is.
        """
        inputs = self.network.size(self.network.input.name)
        losses = self.region.lower.new_zeros(self.region.batch, objective.count, inputs)
        scored = {name: _ScoredRelaxation(step, self.shares[name], losses) for name, step in self.relaxations.items()}
        return self._checked(_forms(self.network, objective, scored, self.region, self.root)), losses

    def shares_of(self, name: str) -> tuple[_WidthShares, ...]:
        """How the widths of a pre-activation's undecided neurons are shared among the inputs, by each ReLU on it."""
        relus = (node.name for node in self.network.consumers(name) if node.name in self.shares)
        return tuple(self.shares[relu] for relu in relus)

    def _checked(self, forms: LinearForms) -> LinearForms:
        return LinearForms(forms.coefficients, torch.where(self.finite[:, None], forms.constant, torch.nan))


def neuron_count(network: Network) -> int:
    """How many neurons have a sign, ``BatchedCrown.signs.shape[1]``. Raises :class:`InputError` where an activation is
    not a ReLU."""
    for node in network.activations:
        if not node.is_relu:
            raise InputError(
                f"node '{node.name}': splitting inputs takes ReLU networks, this is a {node.operator.kind}"
            )
    return sum(network.size(name) for name in network.pre_activations)


@torch.no_grad()
def batched_crown(
    network: Network,
    region: Region,
    signs: Tensor,
    root: RootRelaxation,
    lower_slope: str = "area",
) -> BatchedCrown:
    """The relaxation over boxes, layer by layer: DeepPoly for neurons that ``signs`` leaves undecided.

    ``signs`` are as in :class:`BatchedCrown`, for example those of larger boxes that contain these; ``root`` is the
    relaxation over a box that contains all of them.
    """
    width = (region.upper - region.lower).flatten(1)
    relaxations: dict[str, ReluRelaxation | TwinRelaxation] = {}
    shares: dict[str, _WidthShares] = {}
    found, finite = [], torch.ones_like(width[:, 0], dtype=torch.bool)
    sizes = [network.size(name) for name in network.pre_activations]
    for name, known in zip(network.pre_activations, signs.split(sizes, dim=1), strict=True):
        positions = _undecided(known)
        lower, upper = known.clamp(max=0).to(width), known.clamp(min=0).to(width)
        parts = width.new_zeros(*positions.shape, width.shape[1])
        if positions.shape[1]:
            below = _forms(network, root.select(name, positions, 1.0), relaxations, region, root)
            above = _forms(network, root.select(name, positions, -1.0), relaxations, region, root)
            low, high = root.intersect(name, positions, below.concretise(region), -above.concretise(region))
            finite &= (low.isfinite() & high.isfinite()).all(1)
            known = known.scatter(1, positions, _merged(known.gather(1, positions), low, high))
            lower, upper = lower.scatter(1, positions, low), upper.scatter(1, positions, high)
            reach = below.coefficients.abs() * width[:, None]
            parts = reach / reach.sum(2, keepdim=True).clamp(min=torch.finfo(reach.dtype).tiny)
        # A decided sign is all that a ReLU's relaxation needs to know: any bounds of that sign do.
        lower = torch.where(known == 1, 0.0, torch.where(known == -1, -1.0, lower))
        upper = torch.where(known == 1, 1.0, torch.where(known == -1, 0.0, upper))
        found.append(known)
        shape = (region.batch, *network[name].shape)
        bounds = Bounds(lower.reshape(shape), upper.reshape(shape))
        relaxation = _relaxation(network, name, bounds, relaxations, region, root, lower_slope)
        for node in network.activations:
            if node.inputs[0] == name:
                relaxations[node.name] = relaxation
                shares[node.name] = _WidthShares(positions, parts)
    return BatchedCrown(network, region, root, torch.cat([signs[:, :0], *found], dim=1), finite, relaxations, shares)


def _relaxation(
    network: Network,
    name: str,
    bounds: Bounds,
    below: Mapping[str, ReluRelaxation | TwinRelaxation],
    region: Region,
    root: RootRelaxation,
    lower_slope: str,
) -> ReluRelaxation | TwinRelaxation:
    """The relaxation of a ReLU over boxes from the bounds of its input, with that of its twins if it has any."""
    single, pairs = Relu().relax(bounds.lower, bounds.upper, lower_slope), network.twins.get(name)
    if pairs is None:
        return single
    objective = differences(network, name, pairs)
    low, high = (_forms(network, each, below, region, root).concretise(region) for each in (objective, -objective))
    return TwinRelaxation(single, TwinLines.of(pairs, Bounds.computed(low, -high), bounds))


def _undecided(signs: Tensor) -> Tensor:
    """Positions ``(B, k)`` of the zeros in each row of ``(B, n)``; shorter rows are padded with other positions."""
    longest = int((signs == 0).sum(1).max())
    return (signs != 0).to(torch.uint8).argsort(dim=1, stable=True)[:, :longest]


def _merged(known: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Known signs, and those that the bounds decide; bounds that are NaN decide nothing."""
    decided = torch.where(lower >= 0, 1, torch.where(upper <= 0, -1, 0)).to(known.dtype)
    return torch.where(known != 0, known, decided)


def _forms(
    network: Network,
    objective: Objective,
    relaxations: Mapping[str, BackwardRelaxation],
    region: Region,
    root: RootRelaxation,
) -> LinearForms:
    at_input = _InputRelaxation(region)
    constant = back_substitute(network, objective, {**relaxations, network.input.name: at_input}, region, root.rounding)
    rows = at_input.coefficients
    return LinearForms(rows.expand(-1, objective.count, network.size(network.input.name)), constant)
