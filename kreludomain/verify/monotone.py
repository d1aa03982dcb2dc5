"""Whether a network is monotone in an input: bounds of its slopes, a search over parts of the region, and pairs."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kreludomain.activations import Sigmoid, Softplus, Tanh
from kreludomain.attack import can_be_confirmed, confirmation
from kreludomain.attack.falling import FallingPairs
from kreludomain.branching.slopes import SlopeSearch
from kreludomain.deadline import Deadline
from kreludomain.domain import LayerBounds, Method, Query
from kreludomain.domain.slopes import Slope
from kreludomain.network import Network, Runtime
from kreludomain.network.operators import Activation
from kreludomain.property.monotone import Monotonicity
from kreludomain.verify.certificate import Certificate, Verdict
from kreludomain.verify.stages import StageSeconds

#: Activations that keep the order of any two numbers: at the output they do not matter.
_ORDER_KEEPING = (Sigmoid, Softplus, Tanh)
#: Seconds of the first look for pairs, and of the one after bounds did not prove the claim.
_FIRST_LOOK_SECONDS, _SEARCH_SECONDS = 0.5, 10.0


@dataclass(frozen=True, eq=False)
class MonotoneResult:
    """Sound lower bounds of the slopes ``(m,)``, one a feature, bounds of the layers, and perhaps a pair of inputs
    ``(2, *input_shape)`` between which the expression falls."""

    lower: Tensor
    bounds: LayerBounds
    pair: Tensor | None
    notes: tuple[str, ...]
    seconds: StageSeconds


def certify_monotone(
    query: Query, claim: Monotonicity, method: Method, runtime: Runtime, attack: bool, timeout_s: float | None
) -> Certificate:
    """The certificate of a claim of monotonicity over the query's region; see :func:`decide_monotone`."""
    start = time.monotonic()
    found = decide_monotone(query, claim, method, runtime, attack)
    least = claim.margin(found.lower)
    if found.pair is not None:
        verdict, reason = Verdict.FALSIFIED, f"between two inputs it falls: {confirmation(found.pair, query.region)}"
    elif bool(claim.proved(found.lower).all()):
        verdict, reason = Verdict.VERIFIED, f"no slope is below {least:.4g}"
    else:
        verdict, reason = Verdict.UNKNOWN, f"the slope is at least {least:.4g}"
        if query.deadline.passed:
            verdict, reason = Verdict.TIMEOUT, f"time limit of {timeout_s:g} s; {reason}"
    notes = tuple(dict.fromkeys(found.notes))
    seconds = time.monotonic() - start
    return Certificate(verdict, found.lower, seconds, reason, found.bounds, found.pair, notes, found.seconds)


def decide_monotone(
    query: Query, claim: Monotonicity, method: Method, runtime: Runtime, attack: bool
) -> MonotoneResult:
    """Whether a claim of monotonicity holds over the query's region (a batch of one).

    Signs that the bounds of ``method`` decide bound the slopes; a complete method goes on to parts of the region. Where
    a feature is fixed over the region there is nothing to prove, and its bound is 0. Raises :class:`InputError` for
    what does not fit the network, and for activations that are not ReLUs.
    """
    claim.require_fit(query.network)
    query.require_one_region("certify")
    inner = _without_last(query.network, claim.row)
    inner.require_relus("claims of monotonicity")
    width = (query.region.upper - query.region.lower).flatten()
    seconds = StageSeconds()
    pairs = [
        FallingPairs(Slope(inner, feature, claim.row.to(width)), query, runtime, claim.tolerance)
        for feature in claim.features
        if width[feature] > 0
    ]
    looks = attack and can_be_confirmed(query, runtime)
    with seconds.of("attack"):
        pair = _first(pairs, _FIRST_LOOK_SECONDS) if looks else None
    with seconds.of("bounds"):
        abstraction = method.abstract(query)
    signs, lower = _signs(inner, abstraction.bounds), torch.zeros(len(claim.features), dtype=torch.float64)
    for search in pairs:
        lower[claim.features.index(search.slope.feature)] = float(search.slope.lower(signs)[0])
    result = MonotoneResult(lower, abstraction.bounds, pair, abstraction.notes, seconds)
    for number, search in enumerate(pairs):
        position = claim.features.index(search.slope.feature)
        if result.pair is not None or bool(claim.proved(result.lower)[position]) or query.deadline.passed:
            continue
        if looks:
            with seconds.of("attack"):
                result = replace(result, pair=search.search(min(_SEARCH_SECONDS, query.deadline.remaining / 2)))
        if method.is_complete and result.pair is None:
            share = query.deadline.remaining / (len(pairs) - number)
            with seconds.of("branching"):
                result = _searched(result, search, signs, position, Deadline.after(share))
    return result


def _searched(
    result: MonotoneResult, pairs: FallingPairs, signs: Tensor, position: int, deadline: Deadline
) -> MonotoneResult:
    """The result with what a search over parts of the region adds for one feature."""
    found: list[Tensor] = []

    def refute(points: Tensor) -> bool:
        pair = pairs.among(points)
        found.extend([] if pair is None else [pair])
        return pair is not None

    search = SlopeSearch(pairs.slope, pairs.query.region, signs, pairs.tolerance, refute)
    reached = search.run(deadline)
    lower = result.lower.clone()
    lower[position] = max(float(lower[position]), reached.lower)
    note = f"slope along input {pairs.slope.feature}: {reached.bounded} parts bounded, {reached.open} open"
    pair = found[0] if found else None
    return replace(result, lower=lower, pair=pair, notes=(*result.notes, f"{note}; {reached.reason}"))


def _first(searches: list[FallingPairs], seconds: float) -> Tensor | None:
    """The first pair that any of the searches finds."""
    for search in searches:
        found = search.search(seconds / len(searches))
        if found is not None:
            return found
    return None


def _signs(network: Network, bounds: LayerBounds) -> Tensor:
    """Which signs of ReLUs' inputs bounds decide, ``(1, neurons)``; layers one after another."""
    signs = [torch.zeros(1, 0, dtype=torch.int8)]
    for name in network.pre_activations:
        active, inactive = bounds[name].lower >= 0, bounds[name].upper <= 0
        signs.append((active.to(torch.int8) - (inactive & ~active).to(torch.int8)).flatten(1))
    return torch.cat(signs, dim=1)


def _without_last(network: Network, row: Tensor) -> Network:
    """The network without a last activation that keeps order, where the claim is about one output alone."""
    last = network.output.operator
    if int((row != 0).sum()) == 1 and isinstance(last, Activation) and isinstance(last.function, _ORDER_KEEPING):
        return Network(network.nodes[:-1])
    return network
