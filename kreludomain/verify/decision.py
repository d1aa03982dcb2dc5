"""A question, what is known about its answer, and whoever finds out."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from kreludomain.attack.confirm import refuted
from kreludomain.attack.search import find_counterexample
from kreludomain.deadline import Deadline
from kreludomain.domain import LayerBounds, Method, PriorBounds, Query
from kreludomain.network import Network, Runtime
from kreludomain.property import Claim, Region


@dataclass(frozen=True, eq=False)
class Question:
    """Whether a claim holds over a region (one, fit to the network, which is in float64).

    ``prior_bounds`` are sound bounds of nodes. ``tight``: bounds as good as the method can, also of what is proved
    already. ``runtime`` confirms counterexamples. ``attacked``: whether they are looked for apart from what bounds
    point at.
    """

    network: Network
    region: Region
    claim: Claim
    runtime: Runtime
    prior_bounds: PriorBounds | None = None
    tight: bool = False
    attacked: bool = True
    deadline: Deadline = field(default_factory=Deadline)

    @cached_property
    def query(self) -> Query:
        """The same as methods are asked."""
        return Query(
            self.network, self.region, self.claim, prior_bounds=self.prior_bounds or {}, deadline=self.deadline
        )

    def attack(
        self, deadline: Deadline, rounds: int = 3, lower: Tensor | None = None, bounds: LayerBounds | None = None
    ) -> Tensor | None:
        """A counterexample ``(1, *input_shape)`` that onnxruntime has confirmed, if one is found by the deadline.

        ``rounds`` as in :func:`find_counterexample`. Clauses that ``lower`` bounds of the rows prove are left out;
        ``bounds`` are bounds of all layers.
        """
        if not self.attacked:
            return None
        claim = self.claim if lower is None else self.claim.select((~self.claim.proved(lower)).nonzero()[:, 0])
        return find_counterexample(
            self.network, self.region, claim, self.runtime, rounds, deadline=deadline, bounds=bounds
        )

    def refute(self, points: Tensor) -> Tensor | None:
        """The first of inputs ``(n, *input_shape)`` that is a counterexample, rounded and confirmed; or ``None``."""
        return refuted(self.network, points, self.region, self.claim, self.runtime)


@dataclass(frozen=True, eq=False)
class Decision:
    """What was found out: sound lower bounds of the claim's rows ``(m,)``, bounds of the layers, and perhaps a
    counterexample ``(1, *input_shape)`` that onnxruntime has confirmed. ``proved``: the claim holds, whether or not the
    rows' bounds show it: a row can be what holds in one part of the region, and another one elsewhere. ``seconds`` say
    what time went into."""

    lower: Tensor
    bounds: LayerBounds
    counterexample: Tensor | None = None
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    proved: bool = False


class Decider(Method):
    """A method that looks for proofs and counterexamples in turn, and says itself when it is done."""

    @abstractmethod
    def decide(self, question: Question) -> Decision: ...


def decide_by_bounds(method: Method, question: Question) -> Decision:
    """The method's bounds; where they do not prove the claim, the attack."""
    q, start = question, time.monotonic()
    if q.tight:
        abstraction = method.abstract(q.query)
        minima = abstraction.minimise(q.query.objective, q.deadline)
    else:
        abstraction, minima = method.prove(q.query)
    lower, counterexample = minima.lower[0].cpu(), None
    seconds = {"bounds": time.monotonic() - start}
    if q.attacked and not bool(q.claim.proved(lower).all()) and not q.deadline.passed:
        counterexample = q.attack(q.deadline, lower=lower, bounds=abstraction.bounds)
        seconds["attack"] = time.monotonic() - start - seconds["bounds"]
    return Decision(lower, abstraction.bounds, counterexample, abstraction.notes + minima.notes, seconds)
