"""One claim over one region by one method: a verdict, and how close it came."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from kreludomain.activations import Relu
from kreludomain.attack import Attack, PGDAttack, can_be_confirmed, confirmation, nothing_to_find
from kreludomain.deadline import Deadline
from kreludomain.domain import Abstraction, DecisionQuery, Interval, LayerBounds, Method, PriorBounds, Query
from kreludomain.errors import InputError
from kreludomain.network import Network, Node, Runtime
from kreludomain.network.operators import Activation, Input, Linear
from kreludomain.property import Claim, Monotonicity, Region, robustness
from kreludomain.property.logits import at_logits
from kreludomain.verify.certificate import Certificate, Verdict, open_clauses
from kreludomain.verify.methods import make_method
from kreludomain.verify.monotone import certify_monotone


def abstract(
    network: Network,
    region: Region,
    method: str | Method = "deeppoly",
    prior_bounds: PriorBounds | None = None,
    timeout_s: float | None = None,
    **options: object,
) -> Abstraction:
    """The network over the region as a method sees it: ``.bounds`` of every layer, ``.minimise`` for any objective."""
    network = network.to(dtype=torch.float64)  # whatever it was given in: rounding is accounted for in float64
    return make_method(method, **options).abstract(
        Query(network, region, prior_bounds=prior_bounds or {}, deadline=Deadline.after(timeout_s))
    )


def bounds(
    network: Network,
    region: Region,
    method: str | Method = "deeppoly",
    prior_bounds: PriorBounds | None = None,
    timeout_s: float | None = None,
    **options: object,
) -> LayerBounds:
    """Sound bounds of every node over the region, ``(B, *shape)`` each, by node name.

    ``method`` is a name with its ``options``, or a method object; ``prior_bounds`` are sound bounds of nodes by name,
    such as a user's own. Raises :class:`InputError` for what does not fit the network.
    """
    return abstract(network, region, method, prior_bounds, timeout_s, **options).bounds


def certify(
    network: Network,
    region: Region,
    claim: Claim | Monotonicity,
    method: str | Method = "krelu",
    prior_bounds: PriorBounds | None = None,
    timeout_s: float | None = None,
    attack: bool | Attack = True,
    tight: bool = False,
    strict: bool = False,
    runtime: Runtime | None = None,
    **options: object,
) -> Certificate:
    """Whether a claim holds for all ``x`` of a region (one, not a batch): ``C f(x) + d > 0``, or a row in every clause.

    ``method``, ``options`` and ``prior_bounds`` as in :func:`bounds`; k-ReLU by the vertex dual unless told otherwise.
    Counterexamples are looked for where bounds do not prove the claim, by the ``attack`` if one is given; ``False``:
    they are not, though one that a complete method comes across counts. A counterexample is one only when onnxruntime
    confirms it (``runtime``: a session to use again), in the network's own type. Where the interval of an input holds
    no number of that type (a feature that is fixed at 0.1), a counterexample has the nearest one, and ``reason`` says
    so; ``strict`` takes none that is not exactly inside. A row that is proved is left at the first positive bound
    unless ``tight`` is set. After ``timeout_s`` seconds the bounds found by then decide. Of a network that ends in a
    Softmax or a sigmoid, what compares its outputs is asked of the logits before it, where it is the same. Raises
    :class:`InputError` for what does not fit the network.

    A claim that the network is monotone (:func:`monotone`) is proved by bounds of its slopes, which are then the
    ``lower_bounds``, and refuted by a pair of inputs, ``(2, *input_shape)``; the method ``complete`` goes on to parts
    of the region.
    """
    start, deadline = time.monotonic(), Deadline.after(timeout_s)
    made, known = make_method(method, **options), prior_bounds or {}
    if isinstance(claim, Monotonicity):
        if network.head is not None:
            raise InputError(f"monotone: {network.head.note}, which need not be monotone where they are")
        exact = network.to(dtype=torch.float64)
        about = Query(exact, region, prior_bounds=known, deadline=deadline, strict=strict)
        return certify_monotone(about, claim, made, runtime or Runtime(network), bool(attack), timeout_s)
    asked, (claim,) = at_logits(network, (claim,))
    query = DecisionQuery(
        asked.to(dtype=torch.float64),
        region,
        claim,
        prior_bounds=_of_same_values(known, network, asked),
        deadline=deadline,
        runtime=Runtime(asked) if runtime is None else runtime.ending_as(asked),
        attack=chosen_attack(attack, made),
        tight=tight,
        strict=strict,
    )
    notes: tuple[str, ...] = ()
    if not can_be_confirmed(query, query.runtime):
        query, notes = replace(query, attack=None), (nothing_to_find(query, query.runtime),)
    decision = made.decide(query)
    proved, counterexample = query.claim.proved(decision.lower), decision.counterexample
    if counterexample is not None:
        verdict, reason = Verdict.FALSIFIED, confirmation(counterexample, query.region)
    elif bool(proved.all()):
        verdict, reason = Verdict.VERIFIED, "every clause has a row whose lower bound proves it"
    elif decision.proved:
        verdict, reason = Verdict.VERIFIED, "every clause is proved in every part of the region"
    else:
        verdict, reason = Verdict.UNKNOWN, open_clauses(query.claim, decision.lower)
        if deadline.passed:
            verdict, reason = Verdict.TIMEOUT, f"time limit of {timeout_s:g} s; {reason}"
    return Certificate(
        verdict,
        decision.lower,
        time.monotonic() - start,
        reason,
        _bounds_of(network, asked, region, decision.bounds, known),
        None if counterexample is None else counterexample[0],
        tuple(dict.fromkeys((*notes, *decision.notes))),
        decision.seconds,
    )


def _of_same_values(bounds: PriorBounds, network: Network, asked: Network) -> PriorBounds:
    """The bounds of nodes that have the same values in the network that is asked, which may end before sigmoids."""
    end = network.sigmoid_end
    if end is None or asked is not end.logits:
        return bounds
    return {name: found for name, found in bounds.items() if name not in end.changed}


def _bounds_of(network: Network, asked: Network, region: Region, found: LayerBounds, known: PriorBounds) -> LayerBounds:
    """The bounds of a network's nodes from those of the network that was asked in its place."""
    same = _of_same_values(found, network, asked)
    if len(same) == len(found):
        return found
    query = Query(network.to(dtype=torch.float64), region, prior_bounds={**known, **same})
    return Interval().abstract(query).bounds


def chosen_attack(attack: bool | Attack, method: Method) -> Attack | None:
    """The attack that is given, or else the method's own."""
    if isinstance(attack, Attack):
        return attack
    if not isinstance(attack, bool):
        raise InputError(f"attack: input should be true or false, or an attack, not {attack!r}")
    return (method.own_attack or PGDAttack()) if attack else None


def try_on(method: str | Method, region: Region) -> None:
    """Runs a method on a network of two inputs and two neurons; ``region`` is one of its inputs ``(2,)``.

    This takes no time, and finds mistakes that only show in use, such as a solver that cannot take the region: raises
    what the method raises.
    """
    weight = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    nodes = (
        Node("input", Input((2,))),
        Node("hidden", Linear(weight, None, (2,)), ("input",)),
        Node("relu", Activation(Relu(), (2,)), ("hidden",)),
        Node("output", Linear(weight, None, (2,)), ("relu",)),
    )
    certify(Network(nodes), region, robustness(0, 2), method, attack=False, tight=True)
