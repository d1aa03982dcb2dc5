"""The vertex dual of everything below one node: evaluated, differentiated, and certified in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from kreludomain.bounding.dual.grouped import GroupedRelu
from kreludomain.bounding.dual.step import GroupRelaxation, InputRelaxation, gradient
from kreludomain.domain import BackwardRelaxation, Rounding, back_substitute
from kreludomain.network import Network
from kreludomain.property import Objective, Region
from kreludomain.rounding import ROUNDING

#: The least spread of output constraints that weights are relative to.
_LEAST = 1e-30


@dataclass(frozen=True, eq=False)
class Multipliers:
    """Splits and slopes for ``m`` objectives, ``(S, m)`` each, over the slots of all activations in order, and what the
    output constraints' rows count, ``weight`` ``(p, m)``, none of it negative.

    They are a certificate: whoever evaluates them gets a sound bound, whatever they are and wherever they come from.
    """

    split: Tensor
    slope: Tensor
    weight: Tensor

    @classmethod
    def zeros(cls, slots: int, rows: int, count: int, like: Tensor) -> Multipliers:
        """Those that prove what DeepPoly's worst lines do, of ``count`` objectives with ``rows`` of output
        constraints."""
        return cls(like.new_zeros(slots, count), like.new_zeros(slots, count), like.new_zeros(rows, count))

    def rows(self, chosen: Tensor) -> Multipliers:
        """Those of the objectives ``chosen``."""
        return Multipliers(*(part.index_select(1, chosen) for part in self._parts))

    def combine(self, columns: Tensor, sizes: Tensor) -> Multipliers:
        """Multipliers of sums: those of the objectives ``columns`` ``(m, k)``, each times its size, none negative."""

        def added(part: Tensor) -> Tensor:
            total: Tensor = embedding_bag(columns, part.T.contiguous(), per_sample_weights=sizes, mode="sum")
            return total.T

        sizes = sizes.to(self.split)
        return Multipliers(*(added(part) if len(part) else part.new_zeros(0, len(columns)) for part in self._parts))

    def put(self, columns: Tensor, other: Multipliers, slots: Tensor | None = None) -> None:
        """Sets those of the objectives ``columns``, all or some of their slots."""
        for mine, new in ((self.split, other.split), (self.slope, other.slope)):
            if slots is None:
                mine[:, columns] = new.to(mine)
            else:
                mine[slots[:, None], columns] = new.to(mine)
        self.weight[:, columns] = other.weight.to(self.weight)

    @property
    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.split, self.slope, self.weight


@dataclass(frozen=True, eq=False)
class DualProblem:
    """A network over one region with its activations relaxed, in the dtype and on the device of the network.

    ``output_constraints``: ``p`` expressions at the last node that is relaxed over. What is bounded is bounded where
    none of them is positive: any non-negative sum of them may be added to an objective there (the constraint's
    multipliers; Kotha, Brix, Kolter, Dvijotham, Zhang, "Provably bounding neural network preimages", NeurIPS 2023,
    section 3.2).
    """

    network: Network
    region: Region
    relaxations: Mapping[str, GroupedRelu]
    rounding: Rounding
    output_constraints: Objective | None = None

    def constrained_by(self, output_constraints: Objective) -> DualProblem:
        """The problem where none of ``output_constraints`` is positive, which is at the node that this problem is below
        of."""
        return replace(self, output_constraints=output_constraints)

    @property
    def constraint_count(self) -> int:
        """``p``"""
        return 0 if self.output_constraints is None else self.output_constraints.count

    @property
    def slots(self) -> int:
        return sum(relaxation.slots for relaxation in self.relaxations.values())

    def to(self, dtype: torch.dtype, device: torch.device) -> DualProblem:
        """The same problem in another dtype, on another device."""
        network = self.network.to(dtype=dtype, device=device)
        moved = {name: relaxation.to(dtype, device) for name, relaxation in self.relaxations.items()}
        region = self.region.to(dtype, device)
        output_constraints = None if self.output_constraints is None else self.output_constraints.to(region.lower)
        return DualProblem(network, region, moved, self.rounding, output_constraints)

    def restricted(self, objective: Objective) -> tuple[DualProblem, Tensor]:
        """The problem without the groups that the objectives do not reach, and the positions of the slots that stay.

        What reaches a neuron in no group after all, by multipliers of its neighbours, meets DeepPoly's lines.
        A output_constraints reaches all.
        """
        if self.output_constraints is not None:
            return self, torch.arange(self.slots, device=self.region.lower.device)
        reached = dict[str, Tensor]()
        steps = {name: _ReachedRelaxation(name, reached) for name in self.relaxations}
        back_substitute(self.network, objective, steps, self.region, None)
        relaxations, kept, first = {}, [objective.constant.new_zeros(0, dtype=torch.long)], 0
        for name, relaxation in self.relaxations.items():
            if name in reached:
                relaxations[name], positions = relaxation.restricted(reached[name])
                kept.append(first + positions)
            first += relaxation.slots
        return DualProblem(self.network, self.region, relaxations, self.rounding), torch.cat(kept)

    def per_activation(self, slots: Tensor, dim: int = 0) -> dict[str, Tensor]:
        """A tensor that has all slots along ``dim`` as one an activation; views, not copies."""
        sizes = [relaxation.slots for relaxation in self.relaxations.values()]
        return dict(zip(self.relaxations, slots.split(sizes, dim) if sizes else (), strict=True))

    def certified(self, objective: Objective, multipliers: Multipliers, removal: Tensor | None = None) -> Tensor:
        """The bounds ``(m,)`` that multipliers prove, in float64 with outward slack for rounding.

        With ``removal`` (see :class:`GroupRelaxation`): over the part of the region that splits leave.

        Multipliers that are not finite, or too large, prove nothing: minus infinity.
        """
        split, slope, weight = (
            v.to(self.region.lower) for v in (multipliers.split, multipliers.slope, multipliers.weight)
        )
        steps = self.steps(split, slope, removal=removal)
        plus = self._weighted(weight.clamp(min=0), self.rounding)  # below zero it would turn the constraint around
        found = back_substitute(self.network, objective, steps, self.region, self.rounding, plus)[0]
        return torch.where(found.isfinite(), found, -torch.inf)

    def _weighted(self, weight: Tensor, rounding: Rounding | None = None) -> Objective | None:
        """The output constraints' rows, each times its ``weight`` ``(p, m)``, added up; with ``rounding``, less what
        that may be off by."""
        output_constraints = self.output_constraints
        if output_constraints is None:
            return None

        def mixed(rows: Tensor, weight: Tensor = weight) -> Tensor:
            return (weight.T @ rows[0].flatten(1)).unflatten(1, rows.shape[2:])[None]

        constant = (weight.T @ output_constraints.constant[0])[None]
        if rounding is None:
            return Objective(output_constraints.node, mixed(output_constraints.coefficients), constant)
        # Sizes, not sums: the rows may cancel.
        pullback_history = tuple((name, mixed(rows.abs())) for name, rows in output_constraints.pullback_history)
        off = (
            rounding.of_sum(output_constraints.node, mixed(output_constraints.coefficients.abs()))
            * output_constraints.count
        )
        off = off + ROUNDING * (weight.T @ output_constraints.constant[0].abs())
        return Objective(
            output_constraints.node, mixed(output_constraints.coefficients), constant - off, pullback_history
        )

    def exchange(self, objective: Objective) -> Tensor:
        """How much of each of the output constraints' rows is worth an objective, ``(p, m)``: what both may range over
        by their nodes' bounds."""

        def spread(of: Objective) -> Tensor:
            width = self.rounding.bounds[of.node].width.to(of.coefficients)
            return (of.coefficients.abs() * width).flatten(2).sum(2)[0]

        if self.output_constraints is None:
            return objective.constant.new_zeros(0, objective.count)
        return spread(objective) / spread(self.output_constraints).clamp(min=_LEAST)[:, None]

    def start(self, objective: Objective, weight: Tensor) -> Start:
        """Reference slopes (DeepPoly's) and the size of the coefficients that each slot meets with them."""
        steps = {name: _ReferenceRelaxation(relaxation) for name, relaxation in self.relaxations.items()}
        back_substitute(self.network, objective, steps, self.region, None, self._weighted(weight))
        none = objective.constant.new_zeros(0, objective.count)
        reference, size = (torch.cat([none, *(getattr(s, n) for s in steps.values())]) for n in ("reference", "size"))
        return Start(reference, size)

    def ascent(
        self,
        objective: Objective,
        theta: Tensor,
        weight: Tensor,
        reference: Tensor,
        temperature: Tensor,
        removal: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values ``(m,)`` (exact minima, in the problem's dtype), and gradients as ``theta`` and as ``weight``.

        ``theta`` ``(2, S, m)`` are splits and offsets; the gradients are of the value smoothed at ``temperature``
        ``(m,)``.
        """
        steps, start = self.steps(theta[0], theta[1], reference, temperature, removal), InputRelaxation(self.region)
        through: dict[str, BackwardRelaxation] = {**steps, self.network.input.name: start}
        value = back_substitute(self.network, objective, through, self.region, None, self._weighted(weight))
        top = objective if self.output_constraints is None else self.output_constraints
        at_top, found = gradient(self.network, top.node, steps, start)
        of_weight = weight if self.output_constraints is None else self.output_constraints.evaluate(at_top).T
        return value[0], torch.cat([found[name] for name in self.relaxations], dim=1), of_weight

    def multipliers(
        self, objective: Objective, split: Tensor, offset: Tensor, weight: Tensor, reference: Tensor
    ) -> Multipliers:
        """Splits with slopes ``reference * part + offset`` as splits with slopes."""
        steps = self.steps(split, offset, reference)
        back_substitute(self.network, objective, steps, self.region, None, self._weighted(weight))
        return Multipliers(split, torch.cat([split[:0], *(step.slopes for step in steps.values())]), weight)

    def offsets(self, objective: Objective, multipliers: Multipliers, reference: Tensor) -> Tensor:
        """The offsets ``(S, m)`` with which multipliers are relative to ``reference``."""
        steps = self.steps(multipliers.split, multipliers.slope)
        back_substitute(self.network, objective, steps, self.region, None, self._weighted(multipliers.weight))
        return multipliers.slope - reference * torch.cat([step.parts for step in steps.values()])

    def steps(
        self,
        split: Tensor,
        offset: Tensor,
        reference: Tensor | None = None,
        temperature: Tensor | None = None,
        removal: Tensor | None = None,
    ) -> dict[str, GroupRelaxation]:
        splits, offsets = self.per_activation(split), self.per_activation(offset)
        references = {} if reference is None else self.per_activation(reference)
        removals = {} if removal is None else self.per_activation(removal, 1)
        return {
            name: GroupRelaxation(r, splits[name], offsets[name], references.get(name), temperature, removals.get(name))
            for name, r in self.relaxations.items()
        }


@dataclass(frozen=True, eq=False)
class Start:
    """``reference`` ``(S, m)``: the slope of each slot for a unit of coefficient. ``size`` ``(S, m)``: its part of the
    coefficient's magnitude, in units of the objective's value."""

    reference: Tensor
    size: Tensor


class _ReferenceRelaxation:
    """DeepPoly's slopes, which are noted slot by slot."""

    def __init__(self, relaxation: GroupedRelu) -> None:
        self.relaxation = relaxation

    def backward(self, coefficients: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        r = self.relaxation
        above = coefficients[0].flatten(1).T
        slope = torch.where(above >= 0, r.below[:, None], r.above[:, None])
        self.reference = r.gathered(slope)
        self.size = r.gathered(above.abs()) * (r.slot_share * r.slot_unit)
        return ((slope * above).T.reshape(coefficients.shape),), above.new_zeros(1, above.shape[1])


@dataclass(frozen=True)
class _ReachedRelaxation:
    """Passes coefficients on and notes which neurons get one from any objective."""

    name: str
    neurons: dict[str, Tensor]

    def backward(self, coefficients: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        self.neurons[self.name] = (coefficients[0] != 0).any(0).flatten()
        return (coefficients,), coefficients.new_zeros(coefficients.shape[:2])
