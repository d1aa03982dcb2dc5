"""The vertex dual of everything below one node: evaluated, differentiated, and certified in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.domain import Rounding, back_substitute
from kreludomain.network import Network
from kreludomain.refine.dual.relaxation import GroupedRelu
from kreludomain.refine.dual.step import GroupStep, InputStep, gradient
from kreludomain.spec import Objective, Region


@dataclass(frozen=True, eq=False)
class Multipliers:
    """Splits and slopes for ``m`` objectives, ``(S, m)`` each, over the slots of all activations in order.

    They are a certificate: whoever evaluates them gets a sound bound, whatever they are and wherever they come from.
    """

    split: Tensor
    slope: Tensor

    def rows(self, chosen: Tensor) -> Multipliers:
        """Those of the objectives ``chosen``."""
        return Multipliers(self.split.index_select(1, chosen), self.slope.index_select(1, chosen))

    def scaled(self, chosen: Tensor, weight: Tensor) -> Multipliers:
        """Those of the objectives ``chosen`` ``(m,)``, each times its ``weight``, which is not negative."""
        rows = self.rows(chosen)
        return Multipliers(rows.split * weight, rows.slope * weight)

    def __add__(self, other: Multipliers) -> Multipliers:
        """Multipliers of the sum of two objectives, one by one."""
        return Multipliers(self.split + other.split, self.slope + other.slope)


@dataclass(frozen=True, eq=False)
class DualProblem:
    """A network over one region with its activations relaxed, in the dtype and on the device of the network."""

    network: Network
    region: Region
    relaxations: Mapping[str, GroupedRelu]
    rounding: Rounding

    @property
    def slots(self) -> int:
        return sum(relaxation.slots for relaxation in self.relaxations.values())

    def to(self, dtype: torch.dtype, device: torch.device) -> DualProblem:
        """The same problem in another dtype, on another device."""
        network = self.network.to(dtype=dtype, device=device)
        moved = {name: relaxation.to(dtype, device) for name, relaxation in self.relaxations.items()}
        return DualProblem(network, self.region.to(dtype, device), moved, self.rounding)

    def restricted(self, objective: Objective) -> tuple[DualProblem, Tensor]:
        """The problem without the groups that the objectives do not reach, and the positions of the slots that stay.

        What reaches a neuron in no group after all, by multipliers of its neighbours, meets DeepPoly's lines.
        """
        reached = dict[str, Tensor]()
        steps = {name: _ReachedStep(name, reached) for name in self.relaxations}
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

        With ``removal`` (see :class:`GroupStep`): over the part of the region that splits leave.

        Multipliers that are not finite, or too large, prove nothing: minus infinity.
        """
        split, slope = (v.to(self.region.lower) for v in (multipliers.split, multipliers.slope))
        steps = self.steps(split, slope, removal=removal)
        found = back_substitute(self.network, objective, steps, self.region, self.rounding)[0]
        return torch.where(found.isfinite(), found, -torch.inf)

    def start(self, objective: Objective) -> Start:
        """Reference slopes (DeepPoly's) and the size of the coefficients that each slot meets with them."""
        steps = {name: _ReferenceStep(relaxation) for name, relaxation in self.relaxations.items()}
        back_substitute(self.network, objective, steps, self.region, None)
        none = objective.constant.new_zeros(0, objective.count)
        reference, size = (torch.cat([none, *(getattr(s, n) for s in steps.values())]) for n in ("reference", "size"))
        return Start(reference, size)

    def ascent(
        self,
        objective: Objective,
        theta: Tensor,
        reference: Tensor,
        temperature: Tensor,
        removal: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Values ``(m,)`` (exact minima, in the problem's dtype), and gradients as ``theta``.

        ``theta`` ``(2, S, m)`` are splits and offsets; the gradients are of the value smoothed at ``temperature``
        ``(m,)``.
        """
        steps, start = self.steps(theta[0], theta[1], reference, temperature, removal), InputStep(self.region)
        value = back_substitute(self.network, objective, {**steps, self.network.input.name: start}, self.region, None)
        found = gradient(self.network, objective.node, steps, start)
        return value[0], torch.cat([found[name] for name in self.relaxations], dim=1)

    def multipliers(self, objective: Objective, split: Tensor, offset: Tensor, reference: Tensor) -> Multipliers:
        """Splits with slopes ``reference * part + offset`` as splits with slopes."""
        steps = self.steps(split, offset, reference)
        back_substitute(self.network, objective, steps, self.region, None)
        return Multipliers(split, torch.cat([split[:0], *(step.slopes for step in steps.values())]))

    def offsets(self, objective: Objective, multipliers: Multipliers, reference: Tensor) -> Tensor:
        """The offsets ``(S, m)`` with which multipliers are relative to ``reference``."""
        steps = self.steps(multipliers.split, multipliers.slope)
        back_substitute(self.network, objective, steps, self.region, None)
        return multipliers.slope - reference * torch.cat([step.parts for step in steps.values()])

    def steps(
        self,
        split: Tensor,
        offset: Tensor,
        reference: Tensor | None = None,
        temperature: Tensor | None = None,
        removal: Tensor | None = None,
    ) -> dict[str, GroupStep]:
        splits, offsets = self.per_activation(split), self.per_activation(offset)
        references = {} if reference is None else self.per_activation(reference)
        removals = {} if removal is None else self.per_activation(removal, 1)
        return {
            name: GroupStep(r, splits[name], offsets[name], references.get(name), temperature, removals.get(name))
            for name, r in self.relaxations.items()
        }


@dataclass(frozen=True, eq=False)
class Start:
    """``reference`` ``(S, m)``: the slope of each slot for a unit of coefficient. ``size`` ``(S, m)``: its part of the
    coefficient's magnitude, in units of the objective's value."""

    reference: Tensor
    size: Tensor


class _ReferenceStep:
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
class _ReachedStep:
    """Passes coefficients on and notes which neurons get one from any objective."""

    name: str
    neurons: dict[str, Tensor]

    def backward(self, coefficients: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        self.neurons[self.name] = (coefficients[0] != 0).any(0).flatten()
        return (coefficients,), coefficients.new_zeros(coefficients.shape[:2])
