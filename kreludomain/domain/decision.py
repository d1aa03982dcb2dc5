"""Deciding a claim: the query, the attack that looks for counterexamples, and the result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from kreludomain.domain.bounds import LayerBounds
from kreludomain.domain.query import Query
from kreludomain.network import Runtime
from kreludomain.options import Options
from kreludomain.property import Claim


class Attack(Options, ABC):
    """A search for counterexamples: a frozen object of options, whose types are checked when it is made."""

    @abstractmethod
    def search(self, query: Query, runtime: Runtime, bounds: LayerBounds | None = None) -> Tensor | None:
        """An input ``(1, *input_shape)`` of the query's region that breaks its claim, or ``None``.

        The input is a point of the region in the type of ``runtime``, whose outputs break the claim there:
        :func:`kreludomain.attack.confirmed` says whether a point is one. ``bounds`` are bounds of all layers, if
        some are known. Equal queries have equal results, unless the query's deadline ends the search.
        """

    def quick(self) -> Attack:
        """The attack for a first look, before anything is known."""
        return self


@dataclass(frozen=True, eq=False)
class DecisionQuery(Query):
    """Whether a claim holds over one region.

    ``runtime`` confirms counterexamples. ``attack`` looks for them apart from what bounds point at (``None``: nothing
    does). ``tight``: bounds as good as the method can, also of rows that are proved already.
    """

    claim: Claim = field()
    runtime: Runtime = field(kw_only=True)
    attack: Attack | None = field(default=None, kw_only=True)
    tight: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_one_region("certify")

    def find_counterexample(self, lower: Tensor | None = None, bounds: LayerBounds | None = None) -> Tensor | None:
        """A confirmed counterexample ``(1, *input_shape)``, if the attack finds one by the deadline.

        Clauses that ``lower`` bounds ``(m,)`` of the rows prove are left out; ``bounds`` are bounds of all layers.
        """
        if self.attack is None:
            return None
        claim = self.claim if lower is None else self.claim.select((~self.claim.proved(lower)).nonzero()[:, 0])
        return self.attack.search(replace(self, claim=claim), self.runtime, bounds)


@dataclass(frozen=True, eq=False)
class DecisionResult:
    """Sound lower bounds of the claim's rows ``(m,)``, bounds of the layers, and perhaps a counterexample.

    ``counterexample`` ``(1, *input_shape)`` has been confirmed by onnxruntime. ``proved``: the claim holds, whether or
    not the rows' bounds show it, since one row may hold in one part of the region and another one elsewhere.
    ``seconds`` are those of each stage.
    """

    lower: Tensor
    bounds: LayerBounds
    counterexample: Tensor | None = None
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    proved: bool = False
