"""What certification returns: a verdict on a claim, with the bounds or the counterexample that prove it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from torch import Tensor

from kreludomain.domain import LayerBounds
from kreludomain.property import Claim


class Verdict(StrEnum):
    """The verdict on a claim."""

    VERIFIED = "verified"
    FALSIFIED = "falsified"
    UNKNOWN = "unknown"
    TIMEOUT = "timeout"
    MISCLASSIFIED = "misclassified"
    ERROR = "error"


@dataclass(frozen=True, eq=False)
class Certificate:
    """A verdict, and the bounds or the counterexample that prove it.

    ``lower_bounds`` ``(m,)``: sound lower bounds of the claim's rows; *verified* means that they prove every clause.
    ``counterexample`` ``(*input_shape)``, in the network's own type, breaks the claim in onnxruntime; it is there if
    *falsified*. ``bounds`` are those of all layers, ``reason`` says why the method stopped, ``notes`` are its remarks,
    and ``stages`` the seconds of each of its stages.
    """

    verdict: Verdict
    lower_bounds: Tensor
    seconds: float
    reason: str
    bounds: LayerBounds
    counterexample: Tensor | None = None
    notes: tuple[str, ...] = ()
    stages: Mapping[str, float] = field(default_factory=dict)


def open_clauses(claim: Claim, lower: Tensor) -> str:
    """How many clauses bounds of the rows ``(m,)`` do not prove, and what the worst of them lacks."""
    proved, worst = claim.proved(lower), float(claim.clause_margins(lower[None]).min())
    return f"{int((~proved).sum())} of {len(proved)} clauses not proved, the worst is {worst:.4g}"
