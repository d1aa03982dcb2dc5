"""The search of one ball around a centre: programs, tangents, and pairs that are checked in the network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from kreludomain.analysis.invert.options import InvertibilityOptions
from kreludomain.analysis.invert.question import BoundedBall, InvertibilityQuestion, QuestionProgram
from kreludomain.analysis.invert.witness import (
    APART_TOL,
    Witness,
    counts_as_equal,
    distance,
    largest_difference,
    newton_polished,
)
from kreludomain.deadline import Deadline
from kreludomain.programs import MilpSolution, MilpStatus, stacked

#: Subtracted from a certified bound, in units of the ball's radius.
_MARGIN = 1e-6

#: How often the relaxation of a program gets tangents before the program itself is solved (p = 2).
_TANGENT_ROUNDS = 30


@dataclass(frozen=True)
class Effort:
    """Seconds, those of them spent on bounds, programs solved, branch-and-bound nodes, binaries of the last program."""

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


@dataclass(eq=False)
class BallSearch:
    """The search of one question over one ball, until its gap is closed, the ball is shown to be empty, or time is up.

    ``lower``: no pair is nearer to the centre. ``nearest``: how far the best pair is from it.
    """

    question: InvertibilityQuestion
    ball: BoundedBall
    options: InvertibilityOptions
    deadline: Deadline
    lower: float = 0.0
    witness: Witness | None = None
    nearest: float = math.inf
    status: MilpStatus = MilpStatus.TIME
    reason: str = ""
    effort: Effort = field(default_factory=Effort)
    notes: tuple[str, ...] = ()

    def run(self) -> None:
        """Solves programs, each with more tangents, until there is a ``reason`` to stop."""
        program = self.question.program(self.ball)
        start = self._relaxation(program)
        while True:
            solution = program.solve(self.deadline, self.options.gap / 4, start)
            self.effort += Effort(0.0, 0.0, 1, solution.nodes, program.binaries)
            self._learn(program, solution)
            if self.reason:
                return
            start = solution.point

    def _relaxation(self, program: QuestionProgram) -> np.ndarray | None:
        """Adds tangents at the relaxation's solutions, which cost little and are near to those that the program needs.

        Returns a point of the program to start from, if the linear pieces at the relaxation's points, or at the centre,
        have one: few binaries are left when the pieces are given.
        """
        for _ in range(_TANGENT_ROUNDS):
            point = program.solve(self.deadline, relaxed=True).point
            if point is None or not program.objective.add_tangents(point, tolerance=1e-5):
                break
        if point is None or self.question.is_relaxation:
            return None
        # Without ReLUs there are no pieces to give.
        networks = [[each for each in found if each.unstable] for found in program.networks]
        if not any(networks):
            return None
        for inputs in ([self.ball.tensor(u, point) for u in program.points], [self.ball.center] * len(program.points)):
            pairs = [(each, x) for x, found in zip(inputs, networks, strict=True) for each in found]
            active = stacked([each.active for each, _ in pairs])
            pattern = np.concatenate([each.pattern(x) for each, x in pairs])
            found = program.solve(self.deadline, self.options.gap, fixed=(active, pattern))
            if found.point is not None:
                self._propose(program, found.point)
                return found.point
        return None

    def _learn(self, program: QuestionProgram, solution: MilpSolution) -> None:
        """Takes a solution's bound and its witness; without a ``reason`` afterwards the search goes on."""
        self.status = solution.status
        if solution.status == MilpStatus.INFEASIBLE:
            self.lower, self.reason = self.ball.radius, f"nothing within {self.ball.radius:g}"
            return
        radius, certified = self.ball.radius, program.objective.lower_bound(solution.bound) - _MARGIN
        self.lower = max(self.lower, radius * min(certified, 1.0))
        if solution.point is not None:
            self._propose(program, solution.point)
        if solution.status != MilpStatus.OPTIMAL:
            timed = solution.status == MilpStatus.TIME
            self.reason = "time limit" if timed else f"{solution.message}; the bound so far is kept"
        elif self.nearest < math.inf and (1 - self.options.gap) * self.nearest <= self.lower + 2 * _MARGIN * radius:
            self.reason = "gap closed"
        elif solution.point is None or not program.objective.add_tangents(solution.point):
            self.reason = "solved"

    def _propose(self, program: QuestionProgram, point: np.ndarray) -> None:
        """Takes the point's pair for the witness if it is one, and nearer than the one there is."""
        if self.question.is_relaxation:  # a point only shows how far the relaxation's bound can be raised
            reach = max(distance(self.ball.tensor(u, point), self.ball.center, self.ball.norm) for u in program.points)
            self.nearest = min(self.nearest, reach)
            return
        found = check_pair(self.question, self.ball, [self.ball.tensor(u, point) for u in program.points])
        if found is None:
            self.notes += ("a solver's pair is no pair in the network",)
        elif self.witness is None or found.distance < self.witness.distance:
            self.witness, self.nearest = found, found.distance


def check_pair(question: InvertibilityQuestion, ball: BoundedBall, proposed: Sequence[Tensor]) -> Witness | None:
    """The pair that a program proposes, polished and measured in the network; ``None`` if it is no pair."""
    network, onto = question.networks[0], question.networks[1] if len(question.networks) == 2 else None
    free = torch.tensor([True, len(proposed) == 2], dtype=torch.bool)
    raw = torch.stack([proposed[0], proposed[1] if len(proposed) == 2 else ball.center])
    for points in (newton_polished(network, onto, raw, free, ball.region), raw):
        residual, apart = largest_difference(network, points), largest_difference(onto, points)
        if counts_as_equal(network, residual, points) and apart >= (1 - APART_TOL) * question.epsilon:
            reach = max(distance(point, ball.center, ball.norm) for point in points)
            return Witness((points[0], points[1]), reach, residual, apart)
    return None
