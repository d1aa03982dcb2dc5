"""Linear claims about the output: ``C f(x) + d > 0`` in every row, for all ``x`` of a region."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.spec.objective import Objective


@dataclass(frozen=True, eq=False)
class Claim:
    """All rows of ``C f(x) + d`` are positive. ``C`` is ``(m, outputs)``, ``d`` ``(m,)``.

    Raises :class:`InputError` for shapes that do not fit each other and for entries that are not finite.
    """

    C: Tensor
    d: Tensor

    def __post_init__(self) -> None:
        if self.C.dim() != 2 or self.d.shape != self.C.shape[:1]:
            raise InputError(f"claim: C of shape {tuple(self.C.shape)} and d of shape {tuple(self.d.shape)} do not fit")
        if not len(self.C):
            raise InputError("claim: C has no rows")
        if not (torch.isfinite(self.C).all() and torch.isfinite(self.d).all()):
            raise InputError("claim: C or d contains NaN or infinite values")

    def objective(self, network: Network) -> Objective:
        """The rows as objectives at the network's output. Raises :class:`InputError` if the width does not fit."""
        outputs = network.size(network.output.name)
        if self.C.shape[1] != outputs:
            raise InputError(f"claim: C has {self.C.shape[1]} columns, the network has {outputs} outputs")
        return Objective.linear(network, network.output.name, self.C, self.d)

    def margins(self, outputs: Tensor) -> Tensor:
        """``C y + d`` for outputs ``(N, *output_shape)``: ``(N, m)``; the claim holds at rows that are all positive."""
        flat = outputs.flatten(1)
        return flat @ self.C.to(flat).T + self.d.to(flat)


def claim(C: Tensor, d: Tensor | None = None) -> Claim:
    """The claim ``C f(x) + d > 0``; ``d`` is zero if not given."""
    C = torch.as_tensor(C, dtype=torch.float64)
    d = torch.zeros(len(C), dtype=torch.float64) if d is None else torch.as_tensor(d, dtype=torch.float64)
    return Claim(C, d)


def robustness(label: int, classes: int) -> Claim:
    """Output ``label`` is larger than every other of ``classes`` outputs; rows in the order of the other classes."""
    if not 0 <= label < classes:
        raise InputError(f"label {label} is not one of the {classes} classes 0..{classes - 1}")
    others = [c for c in range(classes) if c != label]
    rows = -torch.eye(classes, dtype=torch.float64)[others]
    rows[:, label] = 1.0
    return claim(rows)
