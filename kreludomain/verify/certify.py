"""One claim over one region by one method: a verdict, and how close it came."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from kreludomain.deadline import Deadline
from kreludomain.domain import Abstraction, ClaimMethod, Known, LayerBounds, Method
from kreludomain.errors import InputError
from kreludomain.network import Network, Runtime
from kreludomain.spec import Claim, Region
from kreludomain.verify.attack import find_counterexample
from kreludomain.verify.methods import make_method


class Verdict(StrEnum):
    """What is known of a claim."""

    VERIFIED = "verified"
    FALSIFIED = "falsified"
    UNKNOWN = "unknown"
    TIMEOUT = "timeout"
    MISCLASSIFIED = "misclassified"
    ERROR = "error"


@dataclass(frozen=True, eq=False)
class Certificate:
    """A verdict and what it rests on.

    ``lower_bounds`` ``(m,)``: sound lower bounds of the claim's rows; *verified* means that they prove every clause.
    ``counterexample`` ``(*input_shape)``, float32, breaks the claim in onnxruntime; it is there if *falsified*.
    ``bounds`` are those of all layers, ``reason`` why it stopped there, ``notes`` what else is worth knowing.
    """

    verdict: Verdict
    lower_bounds: Tensor
    seconds: float
    reason: str
    bounds: LayerBounds
    counterexample: Tensor | None = None
    notes: tuple[str, ...] = ()


def abstract(
    network: Network,
    region: Region,
    method: str | Method = "deeppoly",
    known: Known | None = None,
    timeout_s: float | None = None,
    **options: object,
) -> Abstraction:
    """The network over the region as a method sees it: ``.bounds`` of every layer, ``.minimise`` for any objective."""
    network = network.to(dtype=torch.float64)  # whatever it was given in: rounding is accounted for in float64
    return make_method(method, **options).abstract(network, region, known, Deadline.after(timeout_s))


def bounds(
    network: Network,
    region: Region,
    method: str | Method = "deeppoly",
    known: Known | None = None,
    timeout_s: float | None = None,
    **options: object,
) -> LayerBounds:
    """Sound bounds of every node over the region, ``(B, *shape)`` each, by node name.

    ``method`` is a name with its ``options``, or a method object; ``known`` are sound bounds of nodes by name, such as
    a user's own. Raises :class:`InputError` for what does not fit the network.
    """
    return abstract(network, region, method, known, timeout_s, **options).bounds


def certify(
    network: Network,
    region: Region,
    claim: Claim,
    method: str | Method = "krelu",
    known: Known | None = None,
    timeout_s: float | None = None,
    attack: bool = True,
    tight: bool = False,
    runtime: Runtime | None = None,
    **options: object,
) -> Certificate:
    """Whether a claim holds for all ``x`` of a region (one, not a batch): ``C f(x) + d > 0``, or a row in every clause.

    ``method``, ``options`` and ``known`` as in :func:`bounds`; k-ReLU by the vertex dual unless told otherwise. What is
    not proved is attacked if ``attack`` is set; a counterexample counts only when onnxruntime confirms it (``runtime``:
    a session to use again). A row that is proved is left at the first positive bound unless ``tight`` is set. After
    ``timeout_s`` seconds the bounds found by then
    decide. Raises :class:`InputError` for what does not fit the network.
    """
    start, deadline = time.monotonic(), Deadline.after(timeout_s)
    network = network.to(dtype=torch.float64)
    made, region, objective = make_method(method, **options), region.fit(network), claim.objective(network)
    if region.batch != 1:
        raise InputError(f"region: a batch of {region.batch}; certify takes one region at a time")
    if isinstance(made, ClaimMethod) and not tight:
        abstraction, minima = made.prove(network, region, objective, known, deadline)
    else:
        abstraction = made.abstract(network, region, known, deadline)
        minima = (abstraction.minimise if tight else abstraction.prove)(objective, deadline)
    lower = minima.lower[0].cpu()
    counterexample = None
    proved = claim.proved(lower)
    if bool(proved.all()):
        verdict, reason = Verdict.VERIFIED, "every clause has a row whose lower bound proves it"
    else:
        open_clauses, worst = int((~proved).sum()), float(claim.merits(lower[None]).min())
        verdict = Verdict.UNKNOWN
        reason = f"{open_clauses} of {len(proved)} clauses not proved, the worst is {worst:.4g}"
        if deadline.passed:
            verdict, reason = Verdict.TIMEOUT, f"time limit of {timeout_s:g} s; {reason}"
        elif attack:
            missing = claim.select((~proved).nonzero()[:, 0])
            counterexample = find_counterexample(
                network, region, missing, runtime or Runtime(network), deadline=deadline, bounds=abstraction.bounds
            )
    if counterexample is not None:
        verdict, reason = Verdict.FALSIFIED, "counterexample confirmed by onnxruntime"
        counterexample = counterexample[0]
    notes = tuple(dict.fromkeys(abstraction.notes + minima.notes))
    seconds = time.monotonic() - start
    return Certificate(verdict, lower, seconds, reason, abstraction.bounds, counterexample, notes)


def predict(network: Network, x: Tensor) -> Tensor:
    """The class of each input ``(N, *input_shape)``: the position of the largest output, ``(N,)``."""
    with torch.no_grad():
        return network(x.to(dtype=network.dtype, device=network.device)).flatten(1).argmax(1)
