"""The multipliers of the vertex dual: a certificate for a bound, whatever they are."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import embedding_bag


@dataclass(frozen=True, eq=False)
class Multipliers:
    """Multipliers for ``m`` objectives, over the slots of all activations in order.

    ``allocation`` ``(S, m)``: how much of its neuron's coefficient each slot gets besides an equal share. ``slope``
    ``(S, m)``: its slope on the pre-activation. ``constraint`` ``(p, m)``: the multipliers of the output constraints,
    none negative. Evaluating them gives a sound bound, whatever they are and wherever they come from.
    """

    allocation: Tensor
    slope: Tensor
    constraint: Tensor

    @classmethod
    def zeros(cls, slots: int, constraints: int, count: int, like: Tensor) -> Multipliers:
        """Zeros for ``count`` objectives, in the dtype and on the device of a tensor: they prove a loose bound."""
        return cls(like.new_zeros(slots, count), like.new_zeros(slots, count), like.new_zeros(constraints, count))

    def rows(self, chosen: Tensor) -> Multipliers:
        """The multipliers of the objectives at the positions ``chosen``."""
        return Multipliers(*(part.index_select(1, chosen) for part in self._parts))

    def combine(self, columns: Tensor, sizes: Tensor) -> Multipliers:
        """Multipliers of sums of objectives: of those at ``columns`` ``(m, k)``, each times its size, none negative."""

        def combined(part: Tensor) -> Tensor:
            total: Tensor = embedding_bag(columns, part.T.contiguous(), per_sample_weights=sizes, mode="sum")
            return total.T

        sizes = sizes.to(self.allocation)
        return Multipliers(*(combined(part) if len(part) else part.new_zeros(0, len(columns)) for part in self._parts))

    def put(self, columns: Tensor, other: Multipliers, slots: Tensor | None = None) -> None:
        """Sets the multipliers of the objectives ``columns``, in place: of all slots, or of ``slots``."""
        for mine, new in ((self.allocation, other.allocation), (self.slope, other.slope)):
            if slots is None:
                mine[:, columns] = new.to(mine)
            else:
                mine[slots[:, None], columns] = new.to(mine)
        self.constraint[:, columns] = other.constraint.to(self.constraint)

    @property
    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.allocation, self.slope, self.constraint
