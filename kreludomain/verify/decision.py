"""A question, what is known about its answer, and whoever finds out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor

from kreludomain.deadline import Deadline
from kreludomain.domain import ClaimMethod, Known, LayerBounds, Method
from kreludomain.network import Network
from kreludomain.spec import Claim, Region

#: Looks for a counterexample until a deadline; what it returns, ``(1, *input_shape)``, onnxruntime has confirmed.
Attack = Callable[[Deadline], Tensor | None]
#: Inputs ``(n, *input_shape)`` to a confirmed counterexample near one of them, ``(1, *input_shape)``, or ``None``.
Refute = Callable[[Tensor], Tensor | None]


@dataclass(frozen=True, eq=False)
class Question:
    """Whether a claim holds over a region (one, fit to the network, which is in float64).

    ``known`` are sound bounds of nodes. ``tight``: bounds as good as the method can, also of what is proved already.
    ``attack`` and ``refute`` look for counterexamples; ``None`` where none are wanted.
    """

    network: Network
    region: Region
    claim: Claim
    known: Known | None = None
    tight: bool = False
    attack: Attack | None = None
    refute: Refute | None = None
    deadline: Deadline = field(default_factory=Deadline)


@dataclass(frozen=True, eq=False)
class Decision:
    """What was found out: sound lower bounds of the claim's rows ``(m,)``, bounds of the layers, and perhaps a
    counterexample ``(1, *input_shape)`` that onnxruntime has confirmed. ``seconds`` say what time went into."""

    lower: Tensor
    bounds: LayerBounds
    counterexample: Tensor | None = None
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class Decider(Method, Protocol):
    """A method that looks for proofs and counterexamples in turn, and says itself when it is done."""

    def decide(self, question: Question) -> Decision: ...


def decide_by_bounds(method: Method, question: Question) -> Decision:
    """The method's bounds; where they do not prove the claim, the attack."""
    q = question
    objective = q.claim.objective(q.network)
    if isinstance(method, ClaimMethod) and not q.tight:
        abstraction, minima = method.prove(q.network, q.region, objective, q.known, q.deadline)
    else:
        abstraction = method.abstract(q.network, q.region, q.known, q.deadline)
        minima = (abstraction.minimise if q.tight else abstraction.prove)(objective, q.deadline)
    lower, counterexample = minima.lower[0].cpu(), None
    if q.attack is not None and not bool(q.claim.proved(lower).all()) and not q.deadline.passed:
        counterexample = q.attack(q.deadline)
    return Decision(lower, abstraction.bounds, counterexample, abstraction.notes + minima.notes)
