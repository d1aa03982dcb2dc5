"""Claims about the output: linear inequalities ``C f(x) + d > 0`` in clauses, for all ``x`` of a region."""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.property.objective import Objective
from kreludomain.rounding import UNDERFLOW


@dataclass(frozen=True, eq=False)
class Claim:
    """In every clause, at least one row of ``C f(x) + d`` is positive, or as many as are ``needed``.

    ``C`` is ``(m, outputs)``, ``d`` ``(m,)``. ``clause`` ``(m,)``, integers: the clause of each row, 0 to c - 1, each
    with a row; ``None``: each row is its own clause. ``non_strict`` ``(m,)``, booleans: the row counts as true at 0
    too; ``None``: no row does. ``needed`` ``(c,)``, integers: how many rows of each clause have to be true at once;
    ``None``: one. ``zero_proves``: whether a lower bound of exactly 0 proves a non-strict row; not where products may
    have underflowed to it. Without ``needed`` the claim is a conjunction of disjunctions: a clause is broken where all
    of its rows are.

    Raises :class:`InputError` for shapes that do not fit each other, entries that are not finite, clauses without rows,
    and clauses that need more rows than they have.
    """

    C: Tensor
    d: Tensor
    clause: Tensor | None = None
    non_strict: Tensor | None = None
    needed: Tensor | None = None
    zero_proves: bool = True

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
        """Which clauses sound lower bounds of the rows ``(..., m)`` prove: ``(..., c)``.

        A bound that is not finite proves nothing, nor does one above 0 that underflow can have made
        (``kreludomain.rounding.UNDERFLOW``). A bound of exactly 0 proves a non-strict row if ``zero_proves``.
        """
        return self._enough(self._proved_rows(lower))

    def holds(self, margins: Tensor) -> Tensor:
        """Whether the claim is true at points with these margins ``(N, m)``: ``(N,)``."""
        true = margins > 0
        if self.non_strict is not None:
            true |= (margins >= 0) & self.non_strict.to(margins.device)
        return self._enough(true).all(-1)

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
        clause_of_each = None if self.clause is None else clause
        return replace(
            self, C=self.C[chosen], d=self.d[chosen], clause=clause_of_each, non_strict=non_strict, needed=needed
        )

    def disjunctions(self, lower: Tensor, most: int) -> Claim | None:
        """What is left to prove as a conjunction of disjunctions, where ``lower`` ``(m,)`` are bounds of the rows.

        ``t`` of ``r`` rows are true where one is of every ``r - t + 1`` of them. Rows that ``lower`` proves are left
        out, so few are wanted of those that are left: that is ``C(r, t - 1)`` clauses. ``None`` if these are more than
        ``most`` rows in all. Raises :class:`InputError` where nothing is left to prove.
        """
        true = self._proved_rows(lower)
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
        chosen = torch.tensor([row for clause in clauses for row in clause], dtype=torch.int64)
        clause = torch.tensor([number for number, rows in enumerate(clauses) for _ in rows], dtype=torch.int64)
        non_strict = None if self.non_strict is None else self.non_strict[chosen]
        return replace(self, C=self.C[chosen], d=self.d[chosen], clause=clause, non_strict=non_strict, needed=None)

    def _parts(self) -> list[tuple[Tensor, int]]:
        """The rows of each clause, and how many of them are needed."""
        needed = [1] * self.clause_count if self.needed is None else self.needed.tolist()
        return [((self.clauses == number).nonzero()[:, 0], t) for number, t in enumerate(needed)]

    def _proved_rows(self, lower: Tensor) -> Tensor:
        """Which rows sound lower bounds ``(..., m)`` prove."""
        proved = (lower >= UNDERFLOW) & lower.isfinite()
        if self.non_strict is not None and self.zero_proves:
            proved |= (lower >= 0) & lower.isfinite() & self.non_strict.to(lower.device)
        return proved

    def _enough(self, true: Tensor) -> Tensor:
        """Which clauses are true where these rows ``(..., m)`` are: ``(..., c)``."""
        return self._rows_of_clauses(true) >= (1 if self.needed is None else self.needed.to(true.device))

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

    Without ``clause``, all rows are; ``clause``, ``non_strict`` and ``needed`` are as in :class:`Claim`. Warns
    about numbers in float32 that are not those that their shortest decimals say, such as ``torch.tensor([0.1])``.
    """
    C, d = _float64("C", C), None if d is None else _float64("d", d)
    d = torch.zeros(len(C), dtype=torch.float64) if d is None else d
    clause, non_strict, needed = (
        v if v is None or isinstance(v, Tensor) else torch.from_numpy(np.array(v)) for v in (clause, non_strict, needed)
    )
    return Claim(C, d, clause, non_strict, needed)


def _float64(name: str, value: Tensor) -> Tensor:
    """Numbers in float64. Warns where float32 has most likely changed what was written."""
    found = torch.as_tensor(value, dtype=torch.float64)
    if getattr(value, "dtype", None) in (torch.float32, np.float32):
        for number in found[found.isfinite()].unique().tolist():
            written = float(str(np.float32(number)))
            if written != number:
                warnings.warn(
                    f"claim: {name} is float32, in which {written:g} is {number!r}, and that is what is asked; make it "
                    f"with dtype=torch.float64, or give {name}.double() if these are the numbers",
                    stacklevel=3,
                )
                break
    return found
