"""What one method has proved of a claim at several epsilons, and at which one it is to be asked next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from kreludomain.domain import DeepPoly, Interval, LayerBounds, Method, Zonotope
from kreludomain.verify.certificate import Verdict
from kreludomain.verify.certify import certify
from kreludomain.verify.radii.problem import RadiusProblem

#: Methods whose best margins cost no more than the first positive ones, and which need no guide.
_QUICK = (Interval, Zonotope, DeepPoly)
#: The most of the time that is left for one call, so that there is time for a smaller epsilon afterwards.
CALL_SHARE = 0.5


@dataclass(frozen=True)
class Trial:
    """A call of the method: its verdict on the region of ``epsilon``, the smallest bound of a clause, and seconds."""

    epsilon: float
    verdict: Verdict
    margin: float
    seconds: float


@dataclass(eq=False)
class Bisection:
    """What one method has proved of a problem so far: the claim up to ``certified``, not that of ``unproved``.

    ``margins`` by epsilon are those that say how near it came, ``bounds`` those of the layers over the region of
    ``unproved``, which hold in every smaller one.
    """

    problem: RadiusProblem
    method: Method
    certified: float = 0.0
    unproved: float = math.inf
    margins: dict[float, float] = field(default_factory=dict)
    bounds: LayerBounds | None = None
    trials: list[Trial] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_quick(self) -> bool:
        """Whether its margins are the best that it can, also of what it proves."""
        return isinstance(self.method, _QUICK)

    def attempt(self, epsilon: float) -> Tensor | None:
        """One call of the method. Returns a counterexample, should it come across one."""
        problem = self.problem
        deadline = problem.within(CALL_SHARE)
        found = certify(
            problem.network,
            problem.region(epsilon),
            problem.claim,
            self.method,
            prior_bounds=self.bounds,
            timeout_s=deadline.remaining if math.isfinite(deadline.at) else None,
            # a method that is put together with an attack has its turns of both; for others there is one already
            attack=problem.attack if problem.attack and self.method.own_attack else False,
            tight=self.is_quick,
            strict=problem.strict,
            runtime=problem.runtime,
        )
        margin = float(problem.claim.clause_margins(found.lower_bounds[None]).min())
        self.trials.append(Trial(epsilon, found.verdict, margin, found.seconds))
        self.notes.extend(found.notes)
        if found.verdict == Verdict.VERIFIED:
            self.certified = max(self.certified, epsilon)
            if self.is_quick:
                self.margins[epsilon] = margin
        else:
            if math.isfinite(margin) and margin <= 0:
                self.margins[epsilon] = margin
            if found.counterexample is None:
                self.unproved, self.bounds = min(self.unproved, epsilon), found.bounds
        return found.counterexample


def next_epsilon(known: Mapping[float, float], low: float, high: float, tolerance: float) -> float:
    """Where to look for the zero of a margin that is positive at ``low`` and is not at ``high``.

    ``known``: margins by epsilon. The margin falls with epsilon and is nearly concave: its zero lies above that of the
    chord through a positive and a negative margin, and below that of the line through the next two on either side. The
    answer keeps off the ends, so that another such call, whichever way it ends, narrows the interval.
    """
    below = sorted((e for e, margin in known.items() if e <= low and margin > 0), reverse=True)[:2]
    above = sorted(e for e, margin in known.items() if e >= high and margin <= 0)[:2]
    least, most = low, high
    if below and above:
        least = max(least, _zero(known, below[0], above[0]))
    for pair in (below, above):
        if len(pair) == 2 and low < (zero := _zero(known, *pair)):
            most = min(most, zero)
    one_sided = (least > low) != (most < high)  # that end is near the zero, the other one is only what is proved so far
    guess = (least if least > low else most) if one_sided else (least + most) / 2
    step = 0.9 * tolerance * high
    return min(max(guess, low + step), max(high - step, (low + high) / 2))


def _zero(margins: Mapping[float, float], one: float, other: float) -> float:
    """Where the line through two margins is zero; infinite where it does not fall."""
    slope = (margins[other] - margins[one]) / (other - one)
    return one - margins[one] / slope if slope < 0 else math.inf
