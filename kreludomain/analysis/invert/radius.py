"""How far around a point a network is invertible, and one network a function of another: brackets of such radii.

After Cui, Bertalan, Pappas, Morari, Kevrekidis and Fazlyab, *Certified invertibility in neural networks via
mixed-integer programming* (L4DC 2023).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kreludomain.analysis.invert.ball_search import BallSearch, Effort
from kreludomain.analysis.invert.options import InvertibilityOptions
from kreludomain.analysis.invert.question import (
    BoundedBall,
    ClosePairQuestion,
    InvertibilityQuestion,
    PairQuestion,
    PreimageQuestion,
)
from kreludomain.analysis.invert.witness import Witness
from kreludomain.deadline import Deadline
from kreludomain.domain import Query
from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.programs import MilpStatus
from kreludomain.property import ball
from kreludomain.verify.methods import make_method


@dataclass(frozen=True, eq=False)
class InvertibilityRadius:
    """A bracket of a radius.

    ``lower``: certified, no such pair lies nearer. ``witness``: two points that show the radius is at
    most ``upper``, evaluated in the network; without one there is no upper bound. ``strict``: as ``lower``, but for any
    two different points, however close (``None`` where that was not asked). ``reason`` says why the search stopped.
    """

    lower: float
    witness: Witness | None
    strict: float | None
    reason: str
    effort: Effort
    notes: tuple[str, ...] = ()

    @property
    def upper(self) -> float | None:
        """How far the witness is; ``None`` without one."""
        return None if self.witness is None else self.witness.distance

    @property
    def gap(self) -> float | None:
        """``upper - lower``; ``None`` without an upper bound."""
        return None if self.upper is None else self.upper - self.lower


def pair_radius(
    network: Network, center: Tensor, options: InvertibilityOptions, timeout_s: float | None = None
) -> InvertibilityRadius:
    """``r``: the radius of the smallest ball around ``center`` that holds two points with equal images.

    ``lower`` is about points at least ``epsilon`` apart. ``strict`` is about any two points: within it the network is
    injective. ``center`` is ``(*input_shape)``. Raises :class:`InputError` for a network with fewer outputs than
    inputs, which is injective nowhere, and for a centre that does not fit it.
    """
    check_can_be_invertible(network)
    network = _in_float64(network)
    start = time.monotonic()
    close = None
    if options.strict:
        half = None if timeout_s is None else timeout_s / 2
        close = _search(ClosePairQuestion(network, options.epsilon), center, options, Deadline.after(half), 0.0)
    rest = None if timeout_s is None else timeout_s - (time.monotonic() - start)
    found = _search(PairQuestion(network, options.epsilon), center, options, Deadline.after(rest), options.epsilon / 2)
    if close is None:
        return found
    notes = found.notes
    if close.timed_out:
        notes += (f"points closer than epsilon: {close.reason}",)
    effort = close.effort + found.effort
    return replace(found, strict=min(found.lower, close.lower), effort=effort, notes=notes)


def check_can_be_invertible(network: Network) -> None:
    """Raises :class:`InputError` for a network with fewer outputs than inputs."""
    inputs, outputs = network.size(network.input.name), network.size(network.output.name)
    if outputs < inputs:
        raise InputError(
            f"network: {inputs} inputs and {outputs} outputs; a map to fewer dimensions is invertible nowhere"
        )


def preimage_radius(
    network: Network, center: Tensor, options: InvertibilityOptions, timeout_s: float | None = None
) -> InvertibilityRadius:
    """``R``: the distance of ``center`` to the nearest other point with its image, at least ``epsilon`` from it.

    ``strict`` is ``lower`` if it is certain that no such point is nearer than ``epsilon``, else 0. As
    :func:`pair_radius` otherwise, but for a network of any shape.
    """
    network, deadline = _in_float64(network), Deadline.after(timeout_s)
    isolated, effort = None, Effort()
    if options.strict:
        near = replace(options, radius=options.epsilon, norm="inf", stages=(1.0,))
        close = _search(ClosePairQuestion(network, options.epsilon, fixed=True), center, near, deadline, 0.0)
        isolated, effort = close.lower >= options.epsilon, close.effort
    found = _search(PreimageQuestion(network, options.epsilon), center, options, deadline, options.epsilon)
    if isolated is None:
        return found
    notes = (*found.notes, f"points closer than epsilon: {close.reason}") if close.timed_out else found.notes
    return replace(found, strict=found.lower if isolated else 0.0, effort=effort + found.effort, notes=notes)


def transformation_radius(
    first: Network, second: Network, center: Tensor, options: InvertibilityOptions, timeout_s: float | None = None
) -> InvertibilityRadius:
    """The radius around ``center`` within which the second network's output is a function of the first's, to
    ``epsilon``: the smallest ball that holds two points with equal first images and second images ``epsilon`` apart.

    Raises :class:`InputError` for networks that take different inputs.
    """
    check_same_inputs(first, second)
    first, second = _in_float64(first), _in_float64(second)
    return _search(PairQuestion(first, options.epsilon, second), center, options, Deadline.after(timeout_s), 0.0)


def _in_float64(network: Network) -> Network:
    """The network in float64 on the CPU, where programs and witnesses are computed."""
    if (network.dtype, network.device.type) == (torch.float64, "cpu"):
        return network
    return network.to(dtype=torch.float64, device="cpu")


def check_same_inputs(first: Network, second: Network) -> None:
    """Raises :class:`InputError` for networks that take different inputs."""
    if first.input.shape != second.input.shape:
        raise InputError(f"networks: inputs of shapes {first.input.shape} and {second.input.shape} are not the same")


@dataclass(frozen=True, eq=False)
class _TimedRadius(InvertibilityRadius):
    """A radius, and whether it was time that ended the search."""

    timed_out: bool = False


def _search(
    question: InvertibilityQuestion, center: Tensor, options: InvertibilityOptions, deadline: Deadline, floor: float
) -> _TimedRadius:
    """Searches ball after ball until one is not empty. ``floor``: no pair can be nearer than that."""
    method = make_method(options.method)
    center = _fitted(question, center, options)
    lower, effort, notes = floor, Effort(), tuple[str, ...]()
    for radius in (share * options.radius for share in options.stages):
        if radius <= floor:
            continue
        start = time.monotonic()
        region = ball(center, radius, options.norm, options.clip).fit(question.networks[0])
        abstractions = {id(each): method.abstract(Query(each, region, deadline=deadline)) for each in question.networks}
        bounds_seconds = time.monotonic() - start
        notes += tuple(note for found in abstractions.values() for note in found.notes)
        over = {key: found.bounds for key, found in abstractions.items()}
        ball_search = BallSearch(question, BoundedBall(center, radius, options.norm, region, over), options, deadline)
        ball_search.run()
        lower = max(lower, ball_search.lower)
        effort += replace(ball_search.effort, seconds=time.monotonic() - start, bounds_seconds=bounds_seconds)
        notes = tuple(dict.fromkeys((*notes, *ball_search.notes)))
        if ball_search.status != MilpStatus.INFEASIBLE:
            timed_out = ball_search.status == MilpStatus.TIME
            if ball_search.witness is not None:  # it may be closer, by a solver's tolerance
                lower = min(lower, ball_search.witness.distance)
            return _TimedRadius(lower, ball_search.witness, None, ball_search.reason, effort, notes, timed_out)
    return _TimedRadius(options.radius, None, None, f"nothing within {options.radius:g}", effort, notes)


def _fitted(question: InvertibilityQuestion, center: Tensor, options: InvertibilityOptions) -> Tensor:
    """The centre as one float64 input of the network."""
    shape = question.networks[0].input.shape
    center = torch.as_tensor(center, dtype=torch.float64)
    if tuple(center.shape) == (1, *shape):
        center = center[0]
    if tuple(center.shape) != shape:
        raise InputError(f"center: shape {tuple(center.shape)}, the network takes {shape}")
    if not bool(center.isfinite().all()):
        raise InputError("center: contains NaN or infinite values")
    if options.clip is not None and not bool(((center >= options.clip[0]) & (center <= options.clip[1])).all()):
        raise InputError(f"center: lies outside clip {list(options.clip)}")
    return center
