"""Robust radii: how far inputs may move, in ``l_p``, before another class can win.

A network with Lipschitz constant ``L`` (``l_p`` to ``l_p``) moves the difference of two outputs by at most
``2^(1 - 1/p) L`` for each unit that its input moves, the dual norm of ``(1, -1)`` times ``L``: ``sqrt(2) L`` for
``p = 2`` (Tsuzuku, Sato and Sugiyama, NeurIPS 2018), ``2 L`` for ``p = inf``. Next to these radii are what a method
certifies and what an attack breaks, both by bisection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kreludomain.analysis.lipschitz.local import LocalBounds
from kreludomain.analysis.lipschitz.norms import norm_of
from kreludomain.deadline import Deadline
from kreludomain.domain import Method, Query
from kreludomain.errors import InputError
from kreludomain.network import Network, Runtime
from kreludomain.property import Region, ball, robustness
from kreludomain.rounding import ROUNDING
from kreludomain.verify import find_counterexample, make_method

Clip = tuple[float, float] | None

#: The note of an input that is classified wrongly, whose radius is 0.
WRONG = "another class wins at the input"


@dataclass(frozen=True)
class Search:
    """Balls in ``l_p`` (``norm`` is 1, 2 or inf), within ``clip``, of radii up to ``largest``.

    Radii are found to the relative ``tolerance``. Raises :class:`InputError` for values that make no sense.
    """

    largest: float
    norm: float | str = "inf"
    clip: Clip = None
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        norm_of(self.norm)
        if not 0 < self.largest < float("inf"):
            raise InputError(f"radius: largest {self.largest!r} is not a number above 0")
        if not 0 < self.tolerance < 1:
            raise InputError(f"radius: tolerance {self.tolerance!r} is not a number between 0 and 1")

    def ball(self, x: Tensor, radius: float) -> Region:
        """The inputs that ``radius`` is about."""
        return ball(x, radius, str(self.norm), self.clip)


@dataclass(frozen=True)
class Radius:
    """``certified``: no input nearer changes the class. ``notes``: why the search ended before it was done, if it did.

    ``refused`` is the smallest radius that was tried without success, infinite if none was.
    """

    certified: float
    refused: float = float("inf")
    notes: tuple[str, ...] = ()


def margin_factor(p: float | str) -> float:
    """How much faster than ``L`` the difference of two outputs can move: ``2^(1 - 1/p)``."""
    return float(2.0 ** (1.0 - 1.0 / norm_of(p)))


def margins(network: Network, x: Tensor, label: int) -> Tensor:
    """Label's output minus every other one at ``x`` ``(1, *input_shape)``, ``(classes - 1,)``, rounded down."""
    with torch.no_grad():
        outputs = network(x.to(dtype=network.dtype, device=network.device)).cpu()
    claim = robustness(label, outputs.shape[1:].numel())
    return claim.margins(outputs)[0] - ROUNDING * (claim.C.abs() @ outputs.flatten().abs().to(claim.C))


def lipschitz_radius(network: Network, x: Tensor, label: int, constant: float, p: float | str) -> float:
    """The radius that a global constant of the network proves; 0 for an input that has another class."""
    margin = float(margins(network, x, label).min())
    if margin <= 0:
        return 0.0
    factor = margin_factor(p) * constant
    return margin / factor * (1 - ROUNDING) if factor > 0 else float("inf")


def local_radius(
    local: LocalBounds,
    x: Tensor,
    label: int,
    search: Search,
    method: str | Method = "deeppoly",
    deadline: Deadline = Deadline(),
) -> Radius:
    """The radius that local constants of the margins prove.

    Constants over a ball of radius ``r`` prove ``min(r, margin / constant)``. The constants grow with the ball, so the
    best ball is where both are equal; bisection finds it.
    """
    network, found, made = local.network, margins(local.network, x, label), make_method(method)
    rows = robustness(label, len(found) + 1).C
    best = 0.0

    def holds(radius: float) -> bool:
        nonlocal best
        bounds = made.abstract(Query(network, search.ball(x, radius), deadline=deadline)).bounds
        constants = local.gradients(bounds, rows, search.norm)
        proved = min(float((found / constants.clamp(min=1e-300)).min()) * (1 - ROUNDING), radius)
        best = max(best, proved)
        return proved >= radius

    if float(found.min()) <= 0:
        return Radius(0.0, 0.0, (WRONG,))
    result = _bisected(holds, search, deadline)
    return Radius(max(best, result.certified), result.refused, result.notes)


def certified_radius(
    network: Network,
    x: Tensor,
    label: int,
    search: Search,
    method: str | Method = "deeppoly",
    deadline: Deadline = Deadline(),
    start: float | None = None,
) -> Radius:
    """The largest radius that a method certifies.

    ``start`` is where to look first, such as what a cheaper method certifies; it saves slow proofs that fail far above.
    """
    made, claim = make_method(method), robustness(label, network.size(network.output.name))
    found, parts = margins(network, x, label), [claim.select(torch.tensor([row])) for row in range(len(claim.C))]
    order = found.argsort().tolist()  # the class that is nearest first: one row that fails is enough
    notes: list[str] = []

    def holds(radius: float) -> bool:
        abstraction = made.abstract(Query(network, search.ball(x, radius), deadline=deadline))
        for row in list(order):
            minima = abstraction.prove(parts[row].objective(network), deadline)
            notes.extend(minima.notes)
            if not bool(parts[row].proved(minima.lower).all()):
                order.remove(row)
                order.insert(0, row)
                return False
        return True

    if float(found.min()) <= 0:
        return Radius(0.0, 0.0, (WRONG,))
    radius = _bisected(holds, search, deadline, start)
    return replace(radius, notes=tuple(dict.fromkeys((*radius.notes, *notes))))


def attacked_radius(
    network: Network,
    x: Tensor,
    label: int,
    search: Search,
    runtime: Runtime,
    deadline: Deadline = Deadline(),
) -> float | None:
    """The distance of the nearest counterexample that attacks found: no larger radius is robust.

    ``None`` if they found none. Counterexamples are confirmed by onnxruntime.
    """
    claim, nearest = robustness(label, network.size(network.output.name)), float("inf")

    def holds(radius: float) -> bool:
        nonlocal nearest
        found = find_counterexample(network, search.ball(x, radius), claim, runtime)
        if found is None:
            return True
        nearest = min(
            nearest, float(torch.linalg.vector_norm((found.double() - x).flatten(), ord=norm_of(search.norm)))
        )
        return False

    _bisected(holds, search, deadline)
    return nearest if nearest < float("inf") else None


def _bisected(holds: Callable[[float], bool], search: Search, deadline: Deadline, start: float | None = None) -> Radius:
    """The largest radius that holds, between one that does and one that does not.

    From ``start`` it goes up or down by larger and larger steps until it has both, then halves what is between them.
    """
    largest, tolerance = search.largest, search.tolerance
    low, high, step = 0.0, float("inf"), 1.1
    radius = largest if start is None or start <= 0 else min(start, largest)
    while low < largest and high - low > tolerance * min(high, largest) and high > 1e-6 * largest:
        if deadline.passed:
            return Radius(low, high, ("time limit",))
        if holds(radius):
            low = radius
        elif deadline.passed:  # it might have held
            return Radius(low, high, ("time limit",))
        else:
            high = radius
        if low == 0.0 and high > 1e-3 * largest:
            radius = high / (step if start else 2.0)
        elif high == float("inf"):
            radius = min(low * step, largest)
        else:
            radius = (low + high) / 2
        step = step * step
    return Radius(low, high)
