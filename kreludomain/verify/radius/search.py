"""The search for a certified radius: which epsilon is asked about next, of which method, with which share of the time.

What is known is used again. Bounds over a region hold in every smaller one. A counterexample answers every epsilon from
its own up, and is moved towards smaller regions first. The margin as a function of epsilon is nearly a line, and
concave, so margins that are known say where it is zero. A quick method and an attack go before the one that is asked
for, so that its few calls are made where they matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kreludomain.attack import can_be_confirmed
from kreludomain.attack.nearest import Counterexample, NearestSearch
from kreludomain.domain import DeepPoly, Query
from kreludomain.verify.certify import Verdict
from kreludomain.verify.radius.bisection import CALL_SHARE, Bisection, next_epsilon
from kreludomain.verify.radius.problem import RadiusProblem, farthest, linearised_radius

#: Of the time that is left: the most that one search for counterexamples takes.
_ATTACK_SHARE = 0.05
#: The most searches for counterexamples between those that succeed and those that do not, and how near they come.
_ATTACKS, _ATTACK_TOLERANCE = 5, 0.03
#: By what factor an epsilon is above the one that was proved before, while all are.
_STEP = 1.12


@dataclass(eq=False)
class RadiusSearch:
    """The bracket of a problem's radius, and the steps that narrow it; sound after each of them."""

    problem: RadiusProblem
    largest: float
    tolerance: float
    proofs: Bisection = field(init=False)
    nearest: Counterexample | None = None
    missed: float = 0.0
    attacks: int = 0

    def __post_init__(self) -> None:
        self.proofs = Bisection(self.problem, self.problem.method)

    @property
    def certified(self) -> float:
        """No counterexample is this near, even if one of them is due to the rounding of float32."""
        return min(self.proofs.certified, math.nextafter(self.attacked, 0.0))

    @property
    def attacked(self) -> float:
        return math.inf if self.nearest is None else self.nearest.epsilon

    def look(self) -> bool:
        """Looks at the smallest region. Returns whether there is anything to search for: the claim holds there."""
        problem, region = self.problem, self.problem.region(0.0)
        with torch.no_grad():
            margins = problem.claim.margins(problem.network(region.center))
        if not bool(problem.claim.holds(margins).all()):
            self.nearest = Counterexample(region.rounded(region.center, problem.runtime.dtype), 0.0)
            return False
        if bool((region.lower == region.upper).all()):
            self.proofs.margins[0.0] = float(problem.claim.clause_margins(margins).min())
        return True

    def decide(self, epsilons: Sequence[float]) -> None:
        """Decides the claim at each of ascending ``epsilons``, as few of them by a call as there can be."""
        while (left := [e for e in epsilons if max(self.certified, self.missed) < e < self.attacked]) and self._goes_on:
            middle = left[len(left) // 2]
            if not self._attacked_at(middle):
                self.missed = middle
        while left := [e for e in epsilons if self.certified < e < min(self.proofs.unproved, self.attacked)]:
            if not self._goes_on:
                break
            self._attempt(left[len(left) // 2])

    def bisect(self) -> None:
        """Narrows the bracket to the tolerance, or until time is up."""
        first = min(self.largest, linearised_radius(self.problem))
        self.largest = min(self.largest, farthest(self.problem, first))
        start = self._guided(first)
        self._attack_from(max(first, start))
        while self._has_time and not self.is_narrow:
            self._attempt(self._next(start))

    def reason(self, epsilons: Sequence[float], bisect: bool) -> str:
        """Why the search ended, apart from its time limit."""
        if self.attacked == 0:
            return "the claim fails in the smallest region already"
        if bisect and self.certified >= self.largest:
            return f"verified at the largest epsilon, {self.largest:.6g}"
        if bisect:
            return (
                f"narrowed to the tolerance of {self.tolerance:g}"
                if self.is_narrow
                else "not narrowed to the tolerance"
            )
        left = sum(self.certified < epsilon < self.attacked for epsilon in epsilons)
        return f"{left} of {len(epsilons)} epsilons not decided" if left else f"{len(epsilons)} epsilons decided"

    @property
    def was_late(self) -> bool:
        """Whether with more time there might have been more."""
        late = any(
            t.verdict == Verdict.TIMEOUT and self.certified < t.epsilon < self.attacked for t in self.proofs.trials
        )
        return late or self.problem.deadline.passed or not self._has_time

    @property
    def is_narrow(self) -> bool:
        """Whether there is nothing left to ask: the upper end is near, or the largest epsilon is proved."""
        high = self._high
        return self.certified >= self.largest or (
            math.isfinite(high) and high - self.certified <= self.tolerance * high
        )

    @property
    def _high(self) -> float:
        return min(self.proofs.unproved, self.attacked)

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
        low, high = self.certified, self._high
        if math.isfinite(high) and (self.proofs.is_quick or math.isfinite(self.proofs.unproved)) and low > 0:
            return next_epsilon(self.proofs.margins, low, high, self.tolerance)
        if low == 0:
            return (
                min(start, self.largest)
                if start < high
                else next_epsilon(self.proofs.margins, low, high, self.tolerance)
            )
        # Upwards in short steps at first: a proof that fails takes far longer than one that does not.
        factor: float = _STEP ** (2 ** max(0, len(self.proofs.trials) - 3))
        return min(factor * low, (low + high) / 2, self.largest)

    def _guided(self, first: float) -> float:
        """Where to begin: what a quick method certifies, beginning at ``first``, if the method is not one itself."""
        if self.proofs.is_quick:
            return first
        guide = RadiusSearch(self.problem, self.largest, 2 * self.tolerance)
        guide.proofs = Bisection(self.problem, DeepPoly(), margins=dict(self.proofs.margins))
        while guide._goes_on and not guide.is_narrow and guide._high > 1e-3 * first:
            guide._attempt(guide._next(first))
        return guide.certified or first

    def _attack_from(self, epsilon: float) -> None:
        """Looks for counterexamples: in larger regions until there is one, then in smaller ones until there is none."""
        while self.nearest is None and self._goes_on and self.attacks < 2 * _ATTACKS and self.problem.attack:
            if not self._attacked_at(min(1.25 * epsilon, self.largest)):
                self.missed = max(self.missed, min(1.25 * epsilon, self.largest))
                if self.missed >= self.largest:
                    return
            epsilon *= 2
        for _ in range(_ATTACKS):
            below = max(self.missed, self.certified)
            if self.nearest is None or not self._goes_on or self.attacked - below <= _ATTACK_TOLERANCE * self.attacked:
                return
            epsilon = max((below + self.attacked) / 2, 0.9 * self.attacked)
            if not self._attacked_at(epsilon):
                self.missed = epsilon

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
