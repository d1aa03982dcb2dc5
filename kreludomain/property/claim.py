"""Claims about the output: linear inequalities ``C f(x) + d > 0`` in clauses, for all ``x`` of a region."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.property.objective import Objective


@dataclass(frozen=True, eq=False)
class Claim:
    """In every clause, at least one row of ``C f(x) + d`` is positive: a conjunction of disjunctions.

    ``C`` is ``(m, outputs)``, ``d`` ``(m,)``. ``clause`` ``(m,)``, integers: the clause of each row, 0 to c - 1, each
    with a row; ``None``: each row is its own clause. ``non_strict`` ``(m,)``, booleans: the row counts as true at 0
    too; ``None``: no row does. The outputs that break the claim are a set in disjunctive normal form: a clause is
    broken where all of its rows are.

    Raises :class:`InputError` for shapes that do not fit each other, entries that are not finite, clauses without rows.
    """

    C: Tensor
    d: Tensor
    clause: Tensor | None = None
    non_strict: Tensor | None = None

    def __post_init__(self) -> None:
        if self.C.dim() != 2 or self.d.shape != self.C.shape[:1]:
            raise InputError(f"claim: C of shape {tuple(self.C.shape)} and d of shape {tuple(self.d.shape)} do not fit")
        if not len(self.C):
            raise InputError("claim: C has no rows")
        if not (torch.isfinite(self.C).all() and torch.isfinite(self.d).all()):
            raise InputError("claim: C or d contains NaN or infinite values")
        for name, kind, dtype in (("clause", "integers", torch.int64), ("non_strict", "booleans", torch.bool)):
            value = getattr(self, name)
            if value is not None and (value.shape != self.d.shape or value.dtype != dtype):
                raise InputError(f"claim: {name} is not {len(self.d)} {kind}, one a row of C")
        if self.clause is not None:
            present = self.clause.unique()
            if not torch.equal(present, torch.arange(len(present), device=present.device)):
                raise InputError(f"claim: clauses are numbered {present.tolist()}; 0, 1, ... without gaps is expected")

    @cached_property
    def clauses(self) -> Tensor:
        """The clause of each row, ``(m,)``."""
        return torch.arange(len(self.C), device=self.C.device) if self.clause is None else self.clause

    @cached_property
    def clause_count(self) -> int:
        """``c``: how many clauses."""
        return int(self.clauses.max()) + 1

    def objective(self, network: Network) -> Objective:
        """The rows as objectives at the network's output. Raises :class:`InputError` if the width does not fit."""
        outputs = network.size(network.output.name)
        if self.C.shape[1] != outputs:
            raise InputError(f"claim: C has {self.C.shape[1]} columns, the network has {outputs} outputs")
        return Objective.linear(network, network.output.name, self.C, self.d)

    def margins(self, outputs: Tensor) -> Tensor:
        """``C y + d`` for outputs ``(N, *output_shape)``: the value of every row, ``(N, m)``."""
        flat = outputs.flatten(1)
        return flat @ self.C.to(flat).T + self.d.to(flat)

    def clause_margins(self, margins: Tensor) -> Tensor:
        """How far each clause is from broken, ``(N, c)``: the largest margin of its rows. For attacks: no proof."""
        index = self.clauses.to(margins.device).expand(margins.shape)
        start = margins.new_full((len(margins), self.clause_count), float("-inf"))
        return start.scatter_reduce(1, index, margins, "amax")

    def proved(self, lower: Tensor) -> Tensor:
        """Which clauses sound lower bounds of the rows ``(..., m)`` prove: ``(..., c)``; a bound that is NaN proves
        nothing."""
        true = (
            (lower > 0) if self.non_strict is None else (lower > 0) | ((lower >= 0) & self.non_strict.to(lower.device))
        )
        return self._rows_of_clauses(true) > 0

    def holds(self, margins: Tensor) -> Tensor:
        """Whether the claim is true at points with these margins ``(N, m)``: ``(N,)``."""
        return self.proved(margins).all(-1)

    def broken(self, margins: Tensor) -> Tensor:
        """Whether the claim is false at points with these margins ``(N, m)``: ``(N,)``.

        Where a margin is NaN, a claim may be neither true nor false.
        """
        false = (
            (margins <= 0)
            if self.non_strict is None
            else (margins < 0) | ((margins <= 0) & ~self.non_strict.to(margins.device))
        )
        return (self._rows_of_clauses(false) == self._rows_of_clauses(torch.ones_like(false))).any(-1)

    def select(self, clauses: Tensor) -> Claim:
        """The claim of some clauses alone, in this order; ``clauses`` are their numbers."""
        rows = [(self.clauses == number).nonzero()[:, 0] for number in clauses.tolist()]
        chosen = torch.cat(rows)
        clause = torch.cat([torch.full_like(row, position) for position, row in enumerate(rows)])
        non_strict = None if self.non_strict is None else self.non_strict[chosen]
        return Claim(self.C[chosen], self.d[chosen], None if self.clause is None else clause, non_strict)

    def _rows_of_clauses(self, chosen: Tensor) -> Tensor:
        """How many of the chosen rows ``(..., m)`` each clause has, ``(..., c)``."""
        counts = torch.zeros(*chosen.shape[:-1], self.clause_count, dtype=torch.int64, device=chosen.device)
        return counts.index_add(-1, self.clauses.to(chosen.device), chosen.long())


def claim(C: Tensor, d: Tensor | None = None, clause: Tensor | None = None, non_strict: Tensor | None = None) -> Claim:
    """The claim that in every clause a row of ``C f(x) + d`` is positive; ``d`` is zero if not given.

    Without ``clause``, all rows are; ``clause`` and ``non_strict`` are as in :class:`Claim`.
    """
    C = torch.as_tensor(C, dtype=torch.float64)
    d = torch.zeros(len(C), dtype=torch.float64) if d is None else torch.as_tensor(d, dtype=torch.float64)
    clause = None if clause is None else torch.as_tensor(clause)
    return Claim(C, d, clause, None if non_strict is None else torch.as_tensor(non_strict))


def robustness(label: int, classes: int) -> Claim:
    """Output ``label`` is larger than every other of ``classes`` outputs; rows in the order of the other classes."""
    if not 0 <= label < classes:
        raise InputError(f"label {label} is not one of the {classes} classes 0..{classes - 1}")
    others = [c for c in range(classes) if c != label]
    rows = -torch.eye(classes, dtype=torch.float64)[others]
    rows[:, label] = 1.0
    return claim(rows)
