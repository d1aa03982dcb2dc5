"""Many small boxes at once: rows as linear expressions in the input, from what back-substitution leaves there.

A branch and bound over inputs asks for the same few rows over thousands of boxes, each inside a box that was bounded
before. A neuron whose sign was decided there needs no bounds any more, so what is back-substituted, box by box, is only
what is still undecided. The rows keep their coefficients on the input: they say more than their minimum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.activations import BackwardRelaxation, Relu, ReluRelaxation
from kreludomain.domain.backward import back_substitute
from kreludomain.domain.deeppoly import DeepPoly
from kreludomain.domain.query import Query
from kreludomain.domain.rounding import Rounding
from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.property import Objective, Region


@dataclass(frozen=True, eq=False)
class LinearForms:
    """``coefficients . x + constant`` is a lower bound of each row at each ``x`` of its box; what rounding did to both
    is taken off the constant.

    ``coefficients`` ``(B, m, inputs)``, ``constant`` ``(B, m)``.
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
    """The region that boxes are parts of: what holds over all of it, and so in every box.

    ``neurons``: every pre-activation as objectives at the nodes before it, by its node's name, and ``lost`` ``(1, n)``
    what rounding did to them on the way there. ``rounding`` is for values within the region's bounds, which are far
    tighter than it takes: magnitudes that are multiplied by 1e-16.
    """

    rounding: Rounding
    neurons: Mapping[str, Objective]
    lost: Mapping[str, Tensor]

    @classmethod
    @torch.no_grad()
    def of(cls, network: Network, region: Region) -> RootRelaxation:
        """For a batch of one."""
        rounding = DeepPoly(neurons="unstable").abstract(Query(network, region)).rounding
        neurons, lost = dict[str, Objective](), dict[str, Tensor]()
        for name in network.pre_activations:
            ahead = Objective.neurons(network, name, torch.arange(network.size(name))).pulled_back(network)
            neurons[name] = Objective(ahead.node, ahead.coefficients, ahead.constant)
            lost[name] = torch.zeros_like(ahead.constant) + rounding.of_start(ahead)
        return cls(rounding, neurons, lost)

    def chosen(self, name: str, positions: Tensor, sign: float) -> Objective:
        """For each box its own choice ``(B, k)`` of a node's neurons, or their negations."""
        objective = self.neurons[name]
        coefficients, constant = (sign * part[0][positions] for part in (objective.coefficients, objective.constant))
        return Objective(objective.node, coefficients, constant - self.lost[name][0][positions])

    def within(self, name: str, positions: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds ``(B, k)`` of neurons in boxes, cut with the region's: those that rounding is reckoned from."""
        known = self.rounding.bounds[name]
        return (
            torch.fmax(lower, known.lower.flatten()[positions]),
            torch.fmin(upper, known.upper.flatten()[positions]),
        )


class _InputRelaxation:
    """The input's place in a back-substitution: keeps the coefficients that arrive instead of minimising them."""

    def __init__(self, region: Region) -> None:
        self.coefficients = region.lower.new_zeros(region.batch, 1, 1)
        self._region = region

    def backward(self, coefficients: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        self.coefficients = coefficients.flatten(2).expand(self._region.batch, -1, -1)
        return (), coefficients.new_zeros(coefficients.shape[:2])


@dataclass(frozen=True, eq=False)
class _Shares:
    """Undecided neurons of a layer: positions ``(B, k)``, and which part of their width each input makes ``(B, k, n)``.

    Positions that only fill up to ``k`` are of neurons whose relaxation is exact.
    """

    positions: Tensor
    parts: Tensor


@dataclass(frozen=True, eq=False)
class _ScoredRelaxation:
    """A relaxation that charges what it may lose, the chord's height over zero, to the inputs; adds to ``account``."""

    step: ReluRelaxation
    shares: _Shares
    account: Tensor

    def backward(self, coefficients: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        loss = coefficients.flatten(2).abs() * self.step.intercept.flatten(1)[:, None]
        chosen = self.shares.positions[:, None].expand(-1, loss.shape[1], -1)
        self.account.add_(loss.expand(len(chosen), -1, -1).gather(2, chosen) @ self.shares.parts)
        return self.step.backward(coefficients)


@dataclass(frozen=True, eq=False)
class BatchedCrown:
    """A ReLU network over ``B`` boxes: its relaxation, ready to bound rows at the output.

    ``signs`` ``(B, neurons)``, int8: 1 or -1 where a ReLU's input cannot be negative or positive, layers one after
    another; 0 where that is not known. ``finite`` ``(B,)``: where all bounds on the way are; elsewhere rows are NaN,
    which proves nothing.
    """

    network: Network
    region: Region
    whole: RootRelaxation
    signs: Tensor
    finite: Tensor
    steps: Mapping[str, ReluRelaxation]
    shares: Mapping[str, _Shares]

    def rows(self, objective: Objective) -> LinearForms:
        """Lower bounds of the objectives as linear expressions in the input."""
        return self._checked(_forms(self.network, objective, self.steps, self.region, self.whole))

    def charged_rows(self, objective: Objective) -> tuple[LinearForms, Tensor]:
        """As :meth:`rows`, and what each row's bound may lose because of the width of each input, ``(B, m, inputs)``.

        The loss is an estimate, for choosing where to split: what a neuron's triangle may lose, weighed by the row's
        coefficient on it, is divided among the inputs as the neuron's own width is.
        """
        inputs = self.network.size(self.network.input.name)
        account = self.region.lower.new_zeros(self.region.batch, objective.count, inputs)
        charged = {name: _ScoredRelaxation(step, self.shares[name], account) for name, step in self.steps.items()}
        return self._checked(_forms(self.network, objective, charged, self.region, self.whole)), account

    def _checked(self, forms: LinearForms) -> LinearForms:
        return LinearForms(forms.coefficients, torch.where(self.finite[:, None], forms.constant, torch.nan))


def neuron_count(network: Network) -> int:
    """How many signs a box has. Raises :class:`InputError` where an activation is no ReLU."""
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
    whole: RootRelaxation,
    lower_slope: str = "area",
) -> BatchedCrown:
    """The relaxation over boxes, from the input up: DeepPoly for neurons that ``signs`` leaves undecided.

    ``signs`` as in :class:`BatchedCrown`, such as those of larger boxes around; ``whole`` is what all boxes are parts
    of.
    """
    width = (region.upper - region.lower).flatten(1)
    steps: dict[str, ReluRelaxation] = {}
    shares: dict[str, _Shares] = {}
    found, finite = [], torch.ones_like(width[:, 0], dtype=torch.bool)
    sizes = [network.size(name) for name in network.pre_activations]
    for name, known in zip(network.pre_activations, signs.split(sizes, dim=1), strict=True):
        positions = _undecided(known)
        lower, upper = known.clamp(max=0).to(width), known.clamp(min=0).to(width)
        parts = width.new_zeros(*positions.shape, width.shape[1])
        if positions.shape[1]:
            below = _forms(network, whole.chosen(name, positions, 1.0), steps, region, whole)
            above = _forms(network, whole.chosen(name, positions, -1.0), steps, region, whole)
            low, high = whole.within(name, positions, below.concretise(region), -above.concretise(region))
            finite &= (low.isfinite() & high.isfinite()).all(1)
            known = known.scatter(1, positions, _merged(known.gather(1, positions), low, high))
            lower, upper = lower.scatter(1, positions, low), upper.scatter(1, positions, high)
            reach = below.coefficients.abs() * width[:, None]
            parts = reach / reach.sum(2, keepdim=True).clamp(min=torch.finfo(reach.dtype).tiny)
        # A decided sign is all that a ReLU's relaxation needs to know: any bounds of that sign do.
        lower = torch.where(known == 1, 0.0, torch.where(known == -1, -1.0, lower))
        upper = torch.where(known == 1, 1.0, torch.where(known == -1, 0.0, upper))
        found.append(known)
        for node in network.activations:
            if node.inputs[0] == name:
                shape = (region.batch, *node.shape)
                steps[node.name] = Relu().relax(lower.reshape(shape), upper.reshape(shape), lower_slope)
                shares[node.name] = _Shares(positions, parts)
    return BatchedCrown(network, region, whole, torch.cat([signs[:, :0], *found], dim=1), finite, steps, shares)


def _undecided(signs: Tensor) -> Tensor:
    """Positions ``(B, k)`` of what is 0 in each row of ``(B, n)``, filled up with others to the longest row's count."""
    longest = int((signs == 0).sum(1).max())
    return (signs != 0).to(torch.uint8).argsort(dim=1, stable=True)[:, :longest]


def _merged(known: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Signs that are known, and those that bounds decide; bounds that are NaN decide nothing."""
    decided = torch.where(lower >= 0, 1, torch.where(upper <= 0, -1, 0)).to(known.dtype)
    return torch.where(known != 0, known, decided)


def _forms(
    network: Network,
    objective: Objective,
    steps: Mapping[str, BackwardRelaxation],
    region: Region,
    whole: RootRelaxation,
) -> LinearForms:
    at_input = _InputRelaxation(region)
    through = {**steps, network.input.name: at_input}
    constant = back_substitute(network, objective, through, region, whole.rounding)
    rows = at_input.coefficients
    return LinearForms(rows.expand(-1, objective.count, network.size(network.input.name)), constant)
