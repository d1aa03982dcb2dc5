"""Claims about the output: linear inequalities ``C f(x) + d > 0`` in clauses, for all ``x`` of a region."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.property.objective import Objective


@dataclass(frozen=True, eq=False)
class Claim:
    """In every clause, at least one row of ``C f(x) + d`` is positive, or as many as are ``needed``.

    ``C`` is ``(m, outputs)``, ``d`` ``(m,)``. ``clause`` ``(m,)``, integers: the clause of each row, 0 to c - 1, each
    with a row; ``None``: each row is its own clause. ``non_strict`` ``(m,)``, booleans: the row counts as true at 0
    too; ``None``: no row does. ``needed`` ``(c,)``, integers: how many rows of each clause have to be true at once;
    ``None``: one. Without it the claim is a conjunction of disjunctions: a clause is broken where all of its rows are.

    Raises :class:`InputError` for shapes that do not fit each other, entries that are not finite, clauses without rows,
    and clauses that need more rows than they have.
    """

    C: Tensor
    d: Tensor
    clause: Tensor | None = None
    non_strict: Tensor | None = None
    needed: Tensor | None = None

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
        if self.needed is not None:
            sizes = self.clauses.bincount()
            if self.needed.shape != sizes.shape or self.needed.dtype != torch.int64:
                raise InputError(f"claim: needed is not {len(sizes)} integers, one a clause")
            if bool(((self.needed < 1) | (self.needed > sizes)).any()):
                raise InputError(f"claim: needed {self.needed.tolist()} of clauses of {sizes.tolist()} rows")

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
        """How far each clause is from broken, ``(N, c)``: the largest margin of its rows, or, where ``t`` are needed,
        the ``t``-th largest. For attacks: no proof."""
        if self.needed is not None:
            parts = [margins[:, rows].topk(needed).values[:, -1] for rows, needed in self._parts()]
            return torch.stack(parts, dim=1)
        index = self.clauses.to(margins.device).expand(margins.shape)
        start = margins.new_full((len(margins), self.clause_count), float("-inf"))
        return start.scatter_reduce(1, index, margins, "amax")

    def margin(self, lower: Tensor) -> float:
        """The clause margin of the worst clause, where ``lower`` ``(m,)`` are bounds of the rows."""
        return float(self.clause_margins(lower[None]).min())

    def require_fit(self, network: Network) -> None:
        """Raises :class:`InputError` for a network with another number of outputs."""
        self.objective(network)

    def proved(self, lower: Tensor) -> Tensor:
        """Which clauses sound lower bounds of the rows ``(..., m)`` prove: ``(..., c)``; a bound that is NaN proves
        nothing."""
        true = self._true(lower)
        return self._rows_of_clauses(true) >= (1 if self.needed is None else self.needed.to(true.device))

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
        left = self._rows_of_clauses(torch.ones_like(false)) - self._rows_of_clauses(false)
        return (left < (1 if self.needed is None else self.needed.to(false.device))).any(-1)

    def select(self, clauses: Tensor) -> Claim:
        """The claim of some clauses alone, in this order; ``clauses`` are their numbers."""
        rows = [(self.clauses == number).nonzero()[:, 0] for number in clauses.tolist()]
        chosen = torch.cat(rows)
        clause = torch.cat([torch.full_like(row, position) for position, row in enumerate(rows)])
        non_strict = None if self.non_strict is None else self.non_strict[chosen]
        needed = None if self.needed is None else self.needed[clauses.to(self.needed.device)]
        return Claim(self.C[chosen], self.d[chosen], None if self.clause is None else clause, non_strict, needed)

    def disjunctions(self, lower: Tensor, most: int) -> Claim | None:
        """What is left to prove as a conjunction of disjunctions, where ``lower`` ``(m,)`` are bounds of the rows.

        ``t`` of ``r`` rows are true where one is of every ``r - t + 1`` of them. Rows that ``lower`` proves are left
        out, so few are wanted of those that are left: that is ``C(r, t - 1)`` clauses. ``None`` if these are more than
        ``most`` rows in all. Raises :class:`InputError` where nothing is left to prove.
        """
        true = self._true(lower)
        parts = list[tuple[tuple[int, ...], ...]]()
        total = 0
        for rows, needed in self._parts():
            left, needed = rows[~true[rows]].tolist(), needed - int(true[rows].sum())
            if needed > 0:
                size = len(left) - needed + 1
                total += math.comb(len(left), size) * size
                if total > most:
                    return None
                parts.append(tuple(itertools.combinations(left, size)))
        clauses = [clause for part in parts for clause in part]
        if not clauses:
            raise InputError("claim: every clause is proved")
        chosen = torch.tensor([row for clause in clauses for row in clause])
        clause = torch.tensor([number for number, rows in enumerate(clauses) for _ in rows])
        non_strict = None if self.non_strict is None else self.non_strict[chosen]
        return Claim(self.C[chosen], self.d[chosen], clause, non_strict)

    def _parts(self) -> list[tuple[Tensor, int]]:
        """The rows of each clause, and how many of them are needed."""
        needed = [1] * self.clause_count if self.needed is None else self.needed.tolist()
        return [((self.clauses == number).nonzero()[:, 0], t) for number, t in enumerate(needed)]

    def _true(self, lower: Tensor) -> Tensor:
        """Which rows sound lower bounds ``(..., m)`` prove."""
        return (
            (lower > 0) if self.non_strict is None else (lower > 0) | ((lower >= 0) & self.non_strict.to(lower.device))
        )

    def _rows_of_clauses(self, chosen: Tensor) -> Tensor:
        """How many of the chosen rows ``(..., m)`` each clause has, ``(..., c)``."""
        counts = torch.zeros(*chosen.shape[:-1], self.clause_count, dtype=torch.int64, device=chosen.device)
        return counts.index_add(-1, self.clauses.to(chosen.device), chosen.long())


def claim(
    C: Tensor,
    d: Tensor | None = None,
    clause: Tensor | None = None,
    non_strict: Tensor | None = None,
    needed: Tensor | None = None,
) -> Claim:
    """The claim that in every clause a row of ``C f(x) + d`` is positive; ``d`` is zero if not given.

    Without ``clause``, all rows are; ``clause``, ``non_strict`` and ``needed`` are as in :class:`Claim`.
    """
    C = torch.as_tensor(C, dtype=torch.float64)
    d = torch.zeros(len(C), dtype=torch.float64) if d is None else torch.as_tensor(d, dtype=torch.float64)
    clause = None if clause is None else torch.as_tensor(clause)
    rest = (None if value is None else torch.as_tensor(value) for value in (non_strict, needed))
    return Claim(C, d, clause, *rest)
