"""Robust radii: distances in ``l_p`` from an input within which the class cannot change.

If ``L`` is a Lipschitz constant of the network (``l_p`` to ``l_p``), ``2^(1 - 1/p) L`` is one of the difference of two
outputs, ``L`` times the dual norm of ``(1, -1)``: ``sqrt(2) L`` for ``p = 2`` (Tsuzuku, Sato and Sugiyama, NeurIPS
2018), ``2 L`` for ``p = inf``. Beside the radii that follow from constants are those that a method certifies and those
at which an attack succeeds, both by bisection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor

from kreludomain.analysis.lipschitz.local import LocalBounds
from kreludomain.analysis.lipschitz.norms import norm_of
from kreludomain.attack import PGDAttack
from kreludomain.deadline import Deadline
from kreludomain.domain import Method, Query
from kreludomain.errors import InputError
from kreludomain.network import Network, Runtime
from kreludomain.property import Numbers, Region, ball, robustness
from kreludomain.rounding import ROUNDING
from kreludomain.verify import make_method

Clip = tuple[Numbers, Numbers] | None

#: The name of the radius that local constants prove.
LOCAL = "local"

#: The note of an input that is misclassified, whose radius is 0.
MISCLASSIFIED = "the input is misclassified"


@dataclass(frozen=True)
class RadiusSearch:
    """The balls among which the largest robust one is searched: ``l_p`` (``norm`` is 1, 2 or inf), within ``clip``.

    ``kept``: entries of an input that keep their value, booleans ``(*input_shape)``; none by default. Radii go up to
    ``largest`` and are found to the relative ``tolerance``. Raises :class:`InputError` for another norm and for numbers
    out of range.
    """

    largest: float
    norm: float | str = "inf"
    clip: Clip = None
    tolerance: float = 0.01
    kept: Tensor | None = None

    def __post_init__(self) -> None:
        norm_of(self.norm)
        if not 0 < self.largest < float("inf"):
            raise InputError(f"radius: largest {self.largest!r} is not a number above 0")
        if not 0 < self.tolerance < 1:
            raise InputError(f"radius: tolerance {self.tolerance!r} is not a number between 0 and 1")

    def ball(self, x: Tensor, radius: float) -> Region:
        """The ball of ``radius`` around ``x``."""
        return ball(x, radius, self.norm, self.clip, fixed=self.kept)


@dataclass(frozen=True)
class RobustRadius:
    """The result of a search: within ``certified`` of the input, the class does not change.

    ``uncertified`` is the smallest radius at which a proof was tried and failed, infinite if there was none. ``notes``
    say why a search ended early, and what solvers reported.
    """

    certified: float
    uncertified: float = float("inf")
    notes: tuple[str, ...] = ()


def margin_factor(p: float | str) -> float:
    """``2^(1 - 1/p)``: the Lipschitz constant of a difference of two outputs over that of the network."""
    return float(2.0 ** (1.0 - 1.0 / norm_of(p)))


def margins(network: Network, x: Tensor, label: int) -> Tensor:
    """The label's output minus each other one at ``x`` ``(1, *input_shape)``, ``(classes - 1,)``, rounded down."""
    with torch.no_grad():
        outputs = network(x.to(dtype=network.dtype, device=network.device)).cpu()
    claim = robustness(label, outputs.shape[1:].numel())
    return claim.margins(outputs)[0] - ROUNDING * (claim.C.abs() @ outputs.flatten().abs().to(claim.C))


def lipschitz_radius(network: Network, x: Tensor, label: int, constant: float, p: float | str) -> float:
    """The robust radius that a global ``constant`` of the network proves; 0 for a misclassified input."""
    margin = float(margins(network, x, label).min())
    if margin <= 0:
        return 0.0
    factor = margin_factor(p) * constant
    return margin / factor * (1 - ROUNDING) if factor > 0 else float("inf")


def local_radius(
    local: LocalBounds,
    x: Tensor,
    label: int,
    search: RadiusSearch,
    method: str | Method = "deeppoly",
    deadline: Deadline = Deadline(),
) -> RobustRadius:
    """The robust radius that local Lipschitz constants of the margins prove, with bounds by ``method``.

    Constants over a ball of radius ``r`` prove ``min(r, margin / constant)``. Constants grow with the ball, so the
    largest radius is proved where both are equal, which bisection finds.
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
        return RobustRadius(0.0, 0.0, (MISCLASSIFIED,))
    result = _bisect(holds, search, deadline)
    return RobustRadius(max(best, result.certified), result.uncertified, result.notes)


def certified_radius(
    network: Network,
    x: Tensor,
    label: int,
    search: RadiusSearch,
    method: str | Method = "deeppoly",
    deadline: Deadline = Deadline(),
    start: float | None = None,
) -> RobustRadius:
    """The largest radius that a method certifies.

    ``start`` is the radius to try first, such as one that a cheaper method certified: it avoids slow proofs that fail
    at radii far above.
    """
    made, claim = make_method(method), robustness(label, network.size(network.output.name))
    found, parts = (
        margins(network, x, label),
        [claim.select(torch.tensor([row], dtype=torch.int64)) for row in range(len(claim.C))],
    )
    order = found.argsort().tolist()  # the nearest class first: one row that fails is enough
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
        return RobustRadius(0.0, 0.0, (MISCLASSIFIED,))
    radius = _bisect(holds, search, deadline, start)
    return replace(radius, notes=tuple(dict.fromkeys((*radius.notes, *notes))))


def robust_radii(
    local: LocalBounds,
    x: Tensor,
    label: int,
    search: RadiusSearch,
    constants: Mapping[str, float],
    bounds: str | Method = "deeppoly",
    methods: Mapping[str, str | Method] = MappingProxyType({}),
    timeout_s: float | None = None,
) -> dict[str, RobustRadius]:
    """Radii by name: those that ``constants`` prove, that of :func:`local_radius` (``local``), and the ``methods``'.

    ``constants``: global Lipschitz constants of the network by name. ``bounds``: the method that bounds pre-activations
    for the local constants. A method begins its search at the largest radius certified so far. Each search has
    ``timeout_s`` seconds.
    """
    found = {
        name: RobustRadius(min(search.largest, lipschitz_radius(local.network, x, label, constant, search.norm)))
        for name, constant in constants.items()
    }
    found[LOCAL] = local_radius(local, x, label, search, bounds, Deadline.after(timeout_s))
    for name, method in methods.items():
        start = max(radius.certified for radius in found.values())
        deadline = Deadline.after(timeout_s)
        found[name] = certified_radius(local.network, x, label, search, method, deadline, start)
    return found


def attacked_radius(
    network: Network,
    x: Tensor,
    label: int,
    search: RadiusSearch,
    runtime: Runtime,
    deadline: Deadline = Deadline(),
) -> float | None:
    """The distance of the nearest counterexample found: no larger radius is robust. ``None`` if none was found.

    Counterexamples are confirmed by onnxruntime.
    """
    claim, nearest = robustness(label, network.size(network.output.name)), float("inf")

    def holds(radius: float) -> bool:
        nonlocal nearest
        found = PGDAttack().search(Query(network, search.ball(x, radius), claim), runtime)
        if found is None:
            return True
        nearest = min(
            nearest, float(torch.linalg.vector_norm((found.double() - x).flatten(), ord=norm_of(search.norm)))
        )
        return False

    _bisect(holds, search, deadline)
    return nearest if nearest < float("inf") else None


def _bisect(
    holds: Callable[[float], bool], search: RadiusSearch, deadline: Deadline, start: float | None = None
) -> RobustRadius:
    """The largest radius for which ``holds`` is true, by bisection.

    The search first moves up or down from ``start`` by growing factors until it has a radius that holds and one that
    does not, then halves the interval between them.
    """
    largest, tolerance = search.largest, search.tolerance
    low, high, step = 0.0, float("inf"), 1.1
    radius = largest if start is None or start <= 0 else min(start, largest)
    while low < largest and high - low > tolerance * min(high, largest) and high > 1e-6 * largest:
        if deadline.passed:
            return RobustRadius(low, high, ("time limit",))
        if holds(radius):
            low = radius
        elif deadline.passed:  # it might have held
            return RobustRadius(low, high, ("time limit",))
        else:
            high = radius
        if low == 0.0 and high > 1e-3 * largest:
            radius = high / (step if start else 2.0)
        elif high == float("inf"):
            radius = min(low * step, largest)
        else:
            radius = (low + high) / 2
        step = step * step
    return RobustRadius(low, high)
