"""The vertex dual of everything below one node: evaluated, differentiated, and certified in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kreludomain.activations import BackwardRelaxation
from kreludomain.bounding.dual.grouped import GroupedActivation
from kreludomain.bounding.dual.multipliers import Multipliers
from kreludomain.bounding.dual.step import GroupRelaxation, InputRelaxation, gradient
from kreludomain.domain import Rounding, back_substitute
from kreludomain.network import Network
from kreludomain.property import Objective, Region
from kreludomain.rounding import ROUNDING

#: The least range of an output constraint that its multiplier's scale is relative to.
_LEAST_RANGE = 1e-30


@dataclass(frozen=True, eq=False)
class DualProblem:
    """A network over one region with its activations relaxed, in the dtype and on the device of the network.

    ``output_constraints``: ``p`` expressions at the last node that is relaxed over. Bounds are over the inputs where
    none of them is positive: there, any sum of them with non-negative multipliers may be added to an objective (Kotha,
    Brix, Kolter, Dvijotham, Zhang, "Provably bounding neural network preimages", NeurIPS 2023, section 3.2).
    """

    network: Network
    region: Region
    relaxations: Mapping[str, GroupedActivation]
    rounding: Rounding
    output_constraints: Objective | None = None

    def constrained_by(self, output_constraints: Objective) -> DualProblem:
        """The problem over the inputs where none of these expressions is positive; they are at this problem's node."""
        return replace(self, output_constraints=output_constraints)

    @property
    def constraint_count(self) -> int:
        """How many output constraints there are, ``p``."""
        return 0 if self.output_constraints is None else self.output_constraints.count

    @property
    def slots(self) -> int:
        """How many slots all activations have, ``S``."""
        return sum(relaxation.slots for relaxation in self.relaxations.values())

    def to(self, dtype: torch.dtype, device: torch.device) -> DualProblem:
        """The same problem in another dtype, on another device."""
        network = self.network.to(dtype=dtype, device=device)
        moved = {name: relaxation.to(dtype, device) for name, relaxation in self.relaxations.items()}
        region = self.region.to(dtype, device)
        output_constraints = None if self.output_constraints is None else self.output_constraints.to(region.lower)
        return DualProblem(network, region, moved, self.rounding, output_constraints)

    def restricted(self, objective: Objective) -> tuple[DualProblem, Tensor]:
        """The problem with only the groups that the objectives reach, and the positions of their slots.

        A neuron in no such group that multipliers of its neighbours lead to after all meets DeepPoly's lines. Output
        constraints reach all groups.
        """
        if self.output_constraints is not None:
            return self, torch.arange(self.slots, device=self.region.lower.device)
        reached = dict[str, Tensor]()
        noting = {name: _ReachedNeurons(name, reached) for name in self.relaxations}
        back_substitute(self.network, objective, noting, self.region, None)
        relaxations, kept, first = {}, [objective.constant.new_zeros(0, dtype=torch.long)], 0
        for name, relaxation in self.relaxations.items():
            if name in reached:
                relaxations[name], positions = relaxation.restricted(reached[name])
                kept.append(first + positions)
            first += relaxation.slots
        return DualProblem(self.network, self.region, relaxations, self.rounding), torch.cat(kept)

    @property
    def twin_slots(self) -> Tensor:
        """The slots of twins that are groups of their own, pairs ``(P, 2)``."""
        parts, first = [torch.zeros(0, 2, dtype=torch.long, device=self.region.lower.device)], 0
        for relaxation in self.relaxations.values():
            parts.append(relaxation.twin_slots + first)
            first += relaxation.slots
        return torch.cat(parts)

    def per_activation(self, slots: Tensor, dim: int = 0) -> dict[str, Tensor]:
        """A tensor over all slots along ``dim`` as one for each activation; views, not copies."""
        sizes = [relaxation.slots for relaxation in self.relaxations.values()]
        return dict(zip(self.relaxations, slots.split(sizes, dim) if sizes else (), strict=True))

    def certified(self, objective: Objective, multipliers: Multipliers, split_penalty: Tensor | None = None) -> Tensor:
        """The bounds ``(m,)`` that multipliers prove, in float64 with outward slack for rounding.

        With ``split_penalty`` (see :class:`GroupRelaxation`): over the part of the region that the splits leave.

        Multipliers that are not finite, or too large, prove nothing: minus infinity.
        """
        allocation, slope, constraint = (
            v.to(self.region.lower) for v in (multipliers.allocation, multipliers.slope, multipliers.constraint)
        )
        relaxations = self.group_relaxations(allocation, slope, split_penalty=split_penalty)
        # Multipliers below zero would turn a constraint around.
        plus = self._constraint_sum(constraint.clamp(min=0), self.rounding)
        found = back_substitute(self.network, objective, relaxations, self.region, self.rounding, plus)[0]
        return torch.where(found.isfinite(), found, -torch.inf)

    def _constraint_sum(self, constraint: Tensor, rounding: Rounding | None = None) -> Objective | None:
        """The sum of the output constraints times their multipliers ``(p, m)``; with ``rounding``, less its error."""
        output_constraints = self.output_constraints
        if output_constraints is None:
            return None

        def mixed(rows: Tensor, weight: Tensor = constraint) -> Tensor:
            result: Tensor = (weight.T @ rows[0].flatten(1)).unflatten(1, rows.shape[2:])[None]
            return result

        constant = (constraint.T @ output_constraints.constant[0])[None]
        if rounding is None:
            return Objective(output_constraints.node, mixed(output_constraints.coefficients), constant)
        # Sums of magnitudes: the rows may cancel.
        pullback_history = tuple((name, mixed(rows.abs())) for name, rows in output_constraints.pullback_history)
        error = (
            rounding.sum_error(output_constraints.node, mixed(output_constraints.coefficients.abs()))
            * output_constraints.count
        )
        error = error + ROUNDING * (constraint.T @ output_constraints.constant[0].abs())
        return Objective(
            output_constraints.node, mixed(output_constraints.coefficients), constant - error, pullback_history
        )

    def constraint_scale(self, objective: Objective) -> Tensor:
        """The scale of each output constraint's multiplier for each objective, ``(p, m)``: the objective's range over
        the constraint's, by their nodes' bounds."""

        def span(of: Objective) -> Tensor:
            width = self.rounding.bounds[of.node].width.to(of.coefficients)
            return (of.coefficients.abs() * width).flatten(2).sum(2)[0]

        if self.output_constraints is None:
            return objective.constant.new_zeros(0, objective.count)
        return span(objective) / span(self.output_constraints).clamp(min=_LEAST_RANGE)[:, None]

    def reference(self, objective: Objective, constraint: Tensor) -> Reference:
        """DeepPoly's slopes for the objectives, with multipliers ``(p, m)`` of the output constraints, and the
        coefficients that the slots meet with them."""
        noting = {name: _ReferenceRelaxation(relaxation) for name, relaxation in self.relaxations.items()}
        back_substitute(self.network, objective, noting, self.region, None, self._constraint_sum(constraint))
        none = objective.constant.new_zeros(0, objective.count)
        names = ("slope", "size", "at_stake")
        return Reference(*(torch.cat([none, *(getattr(r, n) for r in noting.values())]) for n in names))

    def value_and_gradients(
        self,
        objective: Objective,
        variables: Tensor,
        constraint: Tensor,
        reference: Tensor,
        temperature: Tensor,
        split_penalty: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values ``(m,)``, and gradients with the shapes of ``variables`` and of ``constraint``.

        ``variables`` ``(2, S, m)`` are allocations and slope offsets from ``reference``. Values are exact minima in the
        problem's dtype, gradients those of the value smoothed at ``temperature`` ``(m,)``.
        """
        relaxations = self.group_relaxations(variables[0], variables[1], reference, temperature, split_penalty)
        start = InputRelaxation(self.region)
        through: dict[str, BackwardRelaxation] = {**relaxations, self.network.input.name: start}
        plus = self._constraint_sum(constraint)
        value = back_substitute(self.network, objective, through, self.region, None, plus)
        top = objective if self.output_constraints is None else self.output_constraints
        at_top, found = gradient(self.network, top.node, relaxations, start)
        by_constraint = constraint if self.output_constraints is None else self.output_constraints.evaluate(at_top).T
        return value[0], torch.cat([found[name] for name in self.relaxations], dim=1), by_constraint

    def multipliers(
        self, objective: Objective, allocation: Tensor, offset: Tensor, constraint: Tensor, reference: Tensor
    ) -> Multipliers:
        """Multipliers with the slopes ``reference * part + offset``."""
        relaxations = self.group_relaxations(allocation, offset, reference)
        back_substitute(self.network, objective, relaxations, self.region, None, self._constraint_sum(constraint))
        slopes = torch.cat([allocation[:0], *(relaxation.slopes for relaxation in relaxations.values())])
        return Multipliers(allocation, slopes, constraint)

    def slope_offsets(self, objective: Objective, multipliers: Multipliers, reference: Tensor) -> Tensor:
        """The offsets ``(S, m)`` of the multipliers' slopes: those less ``reference * part``."""
        relaxations = self.group_relaxations(multipliers.allocation, multipliers.slope)
        plus = self._constraint_sum(multipliers.constraint)
        back_substitute(self.network, objective, relaxations, self.region, None, plus)
        return multipliers.slope - reference * torch.cat([relaxation.parts for relaxation in relaxations.values()])

    def group_relaxations(
        self,
        allocation: Tensor,
        offset: Tensor,
        reference: Tensor | None = None,
        temperature: Tensor | None = None,
        split_penalty: Tensor | None = None,
    ) -> dict[str, GroupRelaxation]:
        """The relaxation of each activation with its slots' multipliers: see :class:`GroupRelaxation`."""
        allocations, offsets = self.per_activation(allocation), self.per_activation(offset)
        references = {} if reference is None else self.per_activation(reference)
        penalties = {} if split_penalty is None else self.per_activation(split_penalty, 1)
        return {
            name: GroupRelaxation(
                relaxation, allocations[name], offsets[name], references.get(name), temperature, penalties.get(name)
            )
            for name, relaxation in self.relaxations.items()
        }


@dataclass(frozen=True, eq=False)
class Reference:
    """The point that an ascent starts from. ``slope`` ``(S, m)``: each slot's slope for a unit of coefficient.

    ``size`` ``(S, m)``: its equal share of the coefficient's magnitude, in units of the objective's value. ``at_stake``
    ``(S, m)`` is the same but for twins, which cost no more than their difference does.
    """

    slope: Tensor
    size: Tensor
    at_stake: Tensor


class _ReferenceRelaxation:
    """DeepPoly's lines; keeps slope and size of each slot, see :class:`Reference`."""

    def __init__(self, relaxation: GroupedActivation) -> None:
        self.relaxation = relaxation

    def backward(self, coefficients: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        r = self.relaxation
        above = coefficients[0].flatten(1).T
        slope = r.reference_slope(above)
        self.slope = r.gathered(slope)
        self.size = r.gathered(above.abs()) * (r.slot_equal_share * r.slot_scale)
        self.at_stake = self.size if r.twins is None else r.gathered(r.at_stake(above)) * r.slot_equal_share
        return ((slope * above).T.reshape(coefficients.shape),), above.new_zeros(1, above.shape[1])


@dataclass(frozen=True)
class _ReachedNeurons:
    """Passes coefficients on as they are; keeps which neurons get one from any objective."""

    name: str
    neurons: dict[str, Tensor]

    def backward(self, coefficients: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        self.neurons[self.name] = (coefficients[0] != 0).any(0).flatten()
        return (coefficients,), coefficients.new_zeros(coefficients.shape[:2])
