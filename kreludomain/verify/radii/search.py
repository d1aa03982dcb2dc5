"""The search for a certified radius: which epsilon is asked about next, of which method, with which share of the time.

What is known is used again. Bounds over a region hold in every smaller one. A counterexample answers every epsilon from
its own up, and is moved towards smaller regions first. The margin as a function of epsilon is nearly a line, and
concave, so margins that are known say where it is zero. A quick method and an attack go before the one that is asked
for, so that its few calls are made where they matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from kreludomain.attack import can_be_confirmed, confirmed
from kreludomain.attack.nearest import Counterexample, NearestSearch
from kreludomain.domain import DeepPoly, Query
from kreludomain.verify.certificate import Verdict
from kreludomain.verify.radii.bisection import CALL_SHARE, Bisection, next_epsilon
from kreludomain.verify.radii.problem import RadiusProblem, farthest, linearised_radius

#: Of the time that is left: the most that one search for counterexamples takes.
_ATTACK_SHARE = 0.05
#: The most searches for counterexamples between those that succeed and those that do not, and how near they come.
_ATTACKS, _ATTACK_TOLERANCE = 5, 0.03
#: By what factor an epsilon is above the one that was proved before, while all are.
_STEP = 1.12
#: The quick method is given up as a guide below this share of the epsilon that it begins with.
_LEAST_GUIDE = 1e-3


@dataclass(eq=False)
class RadiusSearch:
    """The bracket of a problem's radius, and the steps that narrow it; sound after each of them.

    Epsilons are asked about up to ``largest``. ``refuted``: an epsilon that is known to have a counterexample.
    """

    problem: RadiusProblem
    largest: float
    tolerance: float
    refuted: float = math.inf
    nearest: Counterexample | None = None
    fails: bool = False
    missed: float = 0.0
    attacks: int = 0
    proofs: Bisection = field(init=False)

    def __post_init__(self) -> None:
        self.proofs = Bisection(self.problem, self.problem.method)

    @property
    def certified(self) -> float:
        """No counterexample is this near, even if one of them is due to the rounding of float32."""
        return min(self.proofs.certified, math.nextafter(self.attacked, 0.0))

    @property
    def attacked(self) -> float:
        """The smallest epsilon with a counterexample, so far."""
        return self.refuted if self.nearest is None else min(self.refuted, self.nearest.epsilon)

    def look(self) -> bool:
        """Looks at the smallest region. Returns whether there is anything to search for: the claim holds there."""
        problem, region = self.problem, self.problem.region(0.0)
        with torch.no_grad():
            margins = problem.claim.margins(problem.network(region.center))
        self.fails = not bool(problem.claim.holds(margins).all())
        if self.fails:
            query = Query(problem.network, region, problem.claim, strict=problem.strict)
            point = confirmed(region.center, query, problem.runtime)
            self.nearest = None if point is None else Counterexample(point, 0.0)
        elif bool((region.lower == region.upper).all()):
            self.proofs.margins[0.0] = float(problem.claim.clause_margins(margins).min())
        return not self.fails

    def refute_at(self, epsilons: Sequence[float]) -> None:
        """Looks for counterexamples at ascending ``epsilons``; what one of them answers is not asked about."""
        while (left := [e for e in epsilons if self.missed < e < self.attacked]) and self._goes_on:
            middle = left[len(left) // 2]
            if not self._attacked_at(middle):
                self.missed = middle

    def refute(self) -> None:
        """Looks for counterexamples: in larger regions until there is one, then in smaller ones until there is none."""
        epsilon = min(1.25 * self._first, self.largest)
        for _ in range(2 * _ATTACKS):
            if self.problem.attack is None or self.nearest is not None or not self._goes_on:
                break
            if epsilon > self.missed and not self._attacked_at(epsilon):
                self.missed = epsilon
            if self.missed >= self.largest:
                return
            epsilon = min(2 * epsilon, self.largest)
        for _ in range(_ATTACKS):
            gap = self.attacked - self.missed
            if self.nearest is None or not self._goes_on or gap <= _ATTACK_TOLERANCE * self.attacked:
                return
            epsilon = max(self.attacked - gap / 2, 0.9 * self.attacked)
            if not self._attacked_at(epsilon):
                self.missed = epsilon

    def prove_at(self, epsilons: Sequence[float]) -> None:
        """Decides the claim at each of ascending ``epsilons`` by as few calls as there can be."""
        while (left := [e for e in epsilons if self.certified < e < self._high]) and self._goes_on:
            self._attempt(left[len(left) // 2])

    def bisect(self) -> None:
        """Narrows the bracket to the tolerance, or until time is up."""
        self.largest = min(self.largest, farthest(self.problem, self._first))
        start = self._guided() if self.certified == 0 and not self.is_narrow else self._first
        while self._has_time and not self.is_narrow:
            self._attempt(self._next(start))

    @property
    def is_narrow(self) -> bool:
        """Whether there is nothing left to ask: the upper end is near, or the largest epsilon is proved."""
        high = self._high
        return self.certified >= self.largest or (
            math.isfinite(high) and high - self.certified <= self.tolerance * high
        )

    @property
    def was_late(self) -> bool:
        """Whether with more time there might have been more."""
        late = [t.epsilon for t in self.proofs.trials if t.verdict == Verdict.TIMEOUT]
        return not self._has_time or any(self.certified < epsilon < self.attacked for epsilon in late)

    @property
    def _high(self) -> float:
        return min(self.proofs.unproved, self.attacked)

    @cached_property
    def _first(self) -> float:
        return min(self.largest, linearised_radius(self.problem))

    @property
    def _goes_on(self) -> bool:
        return not self.problem.deadline.passed

    @property
    def _has_time(self) -> bool:
        """Whether another call can be expected to prove anything: those nearer to the radius take longer."""
        slowest = max((t.seconds for t in self.proofs.trials if t.verdict == Verdict.VERIFIED), default=0.0)
        return self._goes_on and self.problem.deadline.remaining * CALL_SHARE > slowest / 2

    def _attempt(self, epsilon: float) -> None:
        self.problem.require_growth(self.certified, epsilon)
        point = self.proofs.attempt(epsilon)
        if point is not None:
            self._found(point[None], epsilon)

    def _next(self, start: float) -> float:
        """The epsilon of the next call, between what is proved and what is not."""
        low, high, margins = self.certified, self._high, self.proofs.margins
        if low == 0:
            return min(start, self.largest) if start < high else next_epsilon(margins, low, high, self.tolerance)
        if math.isfinite(self.proofs.unproved) or (math.isfinite(high) and self.proofs.is_quick):
            return next_epsilon(margins, low, high, self.tolerance)
        # Upwards in short steps at first: a proof that fails takes far longer than one that does not.
        factor: float = _STEP ** (2 ** max(0, len(self.proofs.trials) - 3))
        return min(factor * low, (low + high) / 2, self.largest)

    def _guided(self) -> float:
        """Where to begin: what a quick method certifies, if the method is not one itself."""
        if self.proofs.is_quick:
            return self._first
        guide = RadiusSearch(replace(self.problem, method=DeepPoly()), self.largest, 2 * self.tolerance, self._high)
        guide.proofs.margins.update(self.proofs.margins)
        while guide._goes_on and not guide.is_narrow and guide._high > _LEAST_GUIDE * self._first:
            guide._attempt(guide._next(self._first))
        return guide.certified or self._first

    def _attacked_at(self, epsilon: float) -> bool:
        problem = self.problem
        if problem.attack is None:
            return False
        region, deadline = problem.region(epsilon), problem.within(_ATTACK_SHARE)
        query = Query(problem.network, region, problem.claim, deadline=deadline, strict=problem.strict)
        if not can_be_confirmed(query, problem.runtime):
            return False
        self.attacks += 1
        point = problem.attack.search(query, problem.runtime)
        if point is not None:
            self._found(point, epsilon)
        return point is not None

    def _found(self, point: Tensor, epsilon: float) -> None:
        problem = self.problem
        search = NearestSearch(
            problem.network, problem.region, problem.claim, problem.runtime, problem.deadline, problem.strict
        )
        found = search.nearest(point, epsilon, self.certified)
        if found.epsilon < self.attacked:
            self.nearest = found
