"""The interface of a method: it bounds networks, proves claims, and decides them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

from kreludomain.domain.abstraction import Abstraction, LowerBounds
from kreludomain.domain.decision import Attack, DecisionQuery, DecisionResult
from kreludomain.domain.query import Query
from kreludomain.options import Options


class Method(Options, ABC):
    """A way to bound a network: a frozen object of options, whose types are checked when it is made.

    Only :meth:`abstract` has to be written; the others are what a method may do better than by its bounds alone.
    """

    @property
    def group_size(self) -> int:
        """How many neurons it relaxes jointly, at most."""
        return 1

    @property
    def is_complete(self) -> bool:
        """Whether it goes on until a claim is decided, instead of ending with its bounds."""
        return False

    @property
    def own_attack(self) -> Attack | None:
        """The attack that it is put together with; ``None``: that is left to whoever asks it to decide."""
        return None

    @abstractmethod
    def abstract(self, query: Query) -> Abstraction:
        """The abstraction of the query's network over its region."""

    def prove(self, query: Query) -> tuple[Abstraction, LowerBounds]:
        """The abstraction that it came to, and lower bounds of the claim's rows: positive where they are proved.

        A method that need not bound everything first, where all that is wanted is a claim's proof, does less here.
        """
        abstraction = self.abstract(query)
        return abstraction, abstraction.prove(query.objective, query.deadline)

    def decide(self, query: DecisionQuery) -> DecisionResult:
        """Whether the claim holds: by bounds, and where they do not prove it, by the query's attack.

        A method that looks for proofs and counterexamples in turns does that here.
        """
        start = time.monotonic()
        if query.tight:
            abstraction = self.abstract(query)
            bounds = abstraction.minimise(query.objective, query.deadline)
        else:
            abstraction, bounds = self.prove(query)
        lower, counterexample = bounds.lower[0].cpu(), None
        seconds = {"bounds": time.monotonic() - start}
        if query.attack is not None and not bool(query.claim.proved(lower).all()) and not query.deadline.passed:
            counterexample = query.find_counterexample(lower, abstraction.bounds)
            seconds["attack"] = time.monotonic() - start - seconds["bounds"]
        return DecisionResult(lower, abstraction.bounds, counterexample, abstraction.notes + bounds.notes, seconds)
