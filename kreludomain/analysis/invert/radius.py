"""How far around a point a network is invertible, and one network a function of another: brackets of such radii.

After Cui, Bertalan, Pappas, Morari, Kevrekidis and Fazlyab, *Certified invertibility in neural networks via
mixed-integer programming* (L4DC 2023).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from kreludomain.analysis.invert.distance import check_norm
from kreludomain.analysis.invert.milp import Solution, Status, stacked
from kreludomain.analysis.invert.question import (
    BoundedBall,
    ClosePairQuestion,
    InvertibilityQuestion,
    PairQuestion,
    PreimageQuestion,
    QuestionProgram,
)
from kreludomain.analysis.invert.witness import APART, Witness, distance, largest_difference, polished, stands
from kreludomain.deadline import Deadline
from kreludomain.domain import Method, Query
from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.property import ball
from kreludomain.verify.methods import make_method

#: What is taken off a dual bound, in units of the ball that it is of.
MARGIN = 1e-6

#: How often the relaxation of a program gets tangents before the program itself is solved (p = 2).
_LP_ROUNDS = 30


@dataclass(frozen=True)
class InvertibilityOptions:
    """How to look.

    ``radius``: how far from the centre; balls of the shares ``stages`` of it are searched one after the other, since
    bounds over a small ball are tight and its program small. ``epsilon``: how far apart two points are to be two (for
    a transformation: how far apart images are to be two), in the maximum norm. ``norm``: 1, 2 or inf, of distances
    from the centre. ``clip``: what inputs can be. ``method``: what bounds the neurons. ``gap``: the relative gap of a
    bracket at which to stop. ``strict``: also ask about points closer than ``epsilon``. Raises :class:`InputError`.
    """

    radius: float
    epsilon: float
    norm: str = "inf"
    clip: tuple[float, float] | None = None
    method: str | Method = "deeppoly"
    gap: float = 1e-3
    stages: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0)
    strict: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "norm", check_norm(self.norm))
        for name in ("radius", "epsilon", "gap"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise InputError(f"{name}: {value!r} is not a finite number above 0")
        rising = all(a < b for a, b in zip((0.0, *self.stages), self.stages, strict=False))
        if not rising or not self.stages or self.stages[-1] != 1:
            raise InputError(f"stages: {list(self.stages)} are not shares that rise from above 0 to 1")


@dataclass(frozen=True)
class Effort:
    """What an answer took: seconds, those of them spent on bounds, programs solved, branch-and-bound nodes, and the
    binaries of the last program."""

    seconds: float = 0.0
    bounds_seconds: float = 0.0
    programs: int = 0
    nodes: int = 0
    binaries: int = 0

    def __add__(self, other: Effort) -> Effort:
        return Effort(
            self.seconds + other.seconds,
            self.bounds_seconds + other.bounds_seconds,
            self.programs + other.programs,
            self.nodes + other.nodes,
            other.binaries,
        )


@dataclass(frozen=True, eq=False)
class InvertibilityRadius:
    """A bracket of a radius.

    ``lower``: certified, nothing of what was asked for lies nearer. ``witness``: two points that show the radius is at
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
    inputs, which is injective nowhere, and for what does not fit it.
    """
    check_can_be_invertible(network)
    network = _exact(network)
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
    if close.late:
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
    network, deadline = _exact(network), Deadline.after(timeout_s)
    isolated, effort = None, Effort()
    if options.strict:
        near = replace(options, radius=options.epsilon, norm="inf", stages=(1.0,))
        close = _search(ClosePairQuestion(network, options.epsilon, fixed=True), center, near, deadline, 0.0)
        isolated, effort = close.lower >= options.epsilon, close.effort
    found = _search(PreimageQuestion(network, options.epsilon), center, options, deadline, options.epsilon)
    if isolated is None:
        return found
    notes = (*found.notes, f"points closer than epsilon: {close.reason}") if close.late else found.notes
    return replace(found, strict=found.lower if isolated else 0.0, effort=effort + found.effort, notes=notes)


def transformation_radius(
    first: Network, second: Network, center: Tensor, options: InvertibilityOptions, timeout_s: float | None = None
) -> InvertibilityRadius:
    """The radius around ``center`` within which the second network's output is a function of the first's, to
    ``epsilon``: the smallest ball that holds two points with equal first images and second images ``epsilon`` apart.

    Raises :class:`InputError` for networks that take different inputs.
    """
    check_same_inputs(first, second)
    first, second = _exact(first), _exact(second)
    return _search(PairQuestion(first, options.epsilon, second), center, options, Deadline.after(timeout_s), 0.0)


def _exact(network: Network) -> Network:
    """The network in float64 on the CPU, which is what programs and witnesses are about."""
    if (network.dtype, network.device.type) == (torch.float64, "cpu"):
        return network
    return network.to(dtype=torch.float64, device="cpu")


def check_same_inputs(first: Network, second: Network) -> None:
    """Raises :class:`InputError` for networks that take different inputs."""
    if first.input.shape != second.input.shape:
        raise InputError(f"networks: inputs of shapes {first.input.shape} and {second.input.shape} are not the same")


@dataclass(frozen=True, eq=False)
class _Found(InvertibilityRadius):
    """A radius, and whether it was time that ended the options."""

    late: bool = False


def _search(
    question: InvertibilityQuestion, center: Tensor, options: InvertibilityOptions, deadline: Deadline, floor: float
) -> _Found:
    """Asks a question of ball after ball until one has an answer. ``floor``: nothing can be nearer than that."""
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
        stage = _Stage(question, BoundedBall(center, radius, options.norm, region, over), options, deadline)
        stage.run()
        lower = max(lower, stage.lower)
        effort += replace(stage.effort, seconds=time.monotonic() - start, bounds_seconds=bounds_seconds)
        notes = tuple(dict.fromkeys((*notes, *stage.notes)))
        if stage.status != Status.INFEASIBLE:
            late = stage.status == Status.TIME
            if stage.witness is not None:  # which may be closer by what a solver's tolerance takes
                lower = min(lower, stage.witness.distance)
            return _Found(lower, stage.witness, None, stage.reason, effort, notes, late)
    return _Found(options.radius, None, None, f"nothing within {options.radius:g}", effort, notes)


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


@dataclass(eq=False)
class _Stage:
    """One question over one ball: solved to its gap, to its emptiness or to the deadline."""

    question: InvertibilityQuestion
    ball: BoundedBall
    options: InvertibilityOptions
    deadline: Deadline
    lower: float = 0.0
    witness: Witness | None = None
    nearest: float = math.inf
    status: Status = Status.TIME
    reason: str = ""
    effort: Effort = field(default_factory=Effort)
    notes: tuple[str, ...] = ()

    def run(self) -> None:
        asked = self.question.program(self.ball)
        start = self._relaxation(asked)
        while True:
            solution = asked.milp.solve(asked.size.cost, self.deadline, self.options.gap / 4, start)
            self.effort += Effort(0.0, 0.0, 1, solution.nodes, asked.milp.binary_count)
            self._learn(asked, solution)
            if self.reason:
                return
            start = solution.point

    def _relaxation(self, asked: QuestionProgram) -> np.ndarray | None:
        """Tangents for the relaxation's solutions, which cost little and are near to what the program needs.

        Returns a point of the program to start from, if the linear pieces at the relaxation's points, or at the centre,
        have one: few binaries are left when the pieces are given.
        """
        for _ in range(_LP_ROUNDS):
            point = asked.milp.solve(asked.size.cost, self.deadline, relaxed=True).point
            if point is None or not asked.size.refine(point, tolerance=1e-5):
                break
        if point is None or isinstance(self.question, ClosePairQuestion):
            return None
        # Without ReLUs there are no pieces to give.
        evaluations = [[each for each in found if each.switches] for found in asked.evaluations]
        if not any(evaluations):
            return None
        for inputs in ([self.ball.tensor(u, point) for u in asked.points], [self.ball.center] * len(asked.points)):
            pairs = [(each, x) for x, found in zip(inputs, evaluations, strict=True) for each in found]
            active = stacked([each.active for each, _ in pairs])
            pattern = np.concatenate([each.pattern(x) for each, x in pairs])
            found = asked.milp.solve(asked.size.cost, self.deadline, self.options.gap, fixed=(active, pattern))
            if found.point is not None:
                self._propose(asked, found.point)
                return found.point
        return None

    def _learn(self, asked: QuestionProgram, solution: Solution) -> None:
        """What a solution says: bounds, a witness, and whether to go on (no reason to stop)."""
        self.status = solution.status
        if solution.status == Status.INFEASIBLE:
            self.lower, self.reason = self.ball.radius, f"nothing within {self.ball.radius:g}"
            return
        radius, certified = self.ball.radius, asked.size.of_bound(solution.bound) - MARGIN
        self.lower = max(self.lower, radius * min(certified, 1.0))
        if solution.point is not None:
            self._propose(asked, solution.point)
        if solution.status != Status.OPTIMAL:
            timed = solution.status == Status.TIME
            self.reason = "time limit" if timed else f"{solution.said}; the bound so far is kept"
        elif self.nearest < math.inf and (1 - self.options.gap) * self.nearest <= self.lower + 2 * MARGIN * radius:
            self.reason = "gap closed"
        elif solution.point is None or not asked.size.refine(solution.point):
            self.reason = "solved"

    def _propose(self, asked: QuestionProgram, point: np.ndarray) -> None:
        """Takes the point's pair for the witness if it is one, and nearer than the one there is."""
        if isinstance(
            self.question, ClosePairQuestion
        ):  # a relaxation: its points show nothing but how far it can be raised
            reach = max(distance(self.ball.tensor(u, point), self.ball.center, self.ball.norm) for u in asked.points)
            self.nearest = min(self.nearest, reach)
            return
        found = check_pair(self.question, self.ball, [self.ball.tensor(u, point) for u in asked.points])
        if found is None:
            self.notes += ("a solver's pair did not stand up in the network",)
        elif self.witness is None or found.distance < self.witness.distance:
            self.witness, self.nearest = found, found.distance


def check_pair(question: InvertibilityQuestion, ball: BoundedBall, proposed: Sequence[Tensor]) -> Witness | None:
    """The pair that a program proposes, polished and measured in the network; ``None`` if it is no pair."""
    network, onto = question.networks[0], question.networks[1] if len(question.networks) == 2 else None
    free = torch.tensor([True, len(proposed) == 2])
    raw = torch.stack([proposed[0], proposed[1] if len(proposed) == 2 else ball.center])
    for points in (polished(network, onto, raw, free, ball.region), raw):
        residual, apart = largest_difference(network, points), largest_difference(onto, points)
        if stands(network, residual, points) and apart >= (1 - APART) * question.epsilon:
            reach = max(distance(point, ball.center, ball.norm) for point in points)
            return Witness((points[0], points[1]), reach, residual, apart)
    return None
