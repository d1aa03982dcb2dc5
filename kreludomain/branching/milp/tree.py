"""Branch and bound over the phases of ReLUs: the mixed-integer program of a network, solved with certified bounds.

The minimum of an objective over a network is a mixed-integer program with a binary an unstable neuron (Tjeng, Xiao,
Tedrake, *Evaluating robustness of neural networks with mixed integer programming*, ICLR 2019). Fixing a binary gives a
neuron's phase, relaxing it the triangle, so the tree over phases is that program's branch and bound. Every leaf's
bound is certified, so that, unlike a mixed-integer solver's, its answer rests on no tolerance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kreludomain.branching.milp.phases import LPResult, PhaseSession
from kreludomain.branching.open_set import OpenSet, Subproblem
from kreludomain.deadline import Deadline
from kreludomain.network import Network
from kreludomain.programs import RelaxedNetwork
from kreludomain.property import Objective

#: A minimum is solved when its bounds are this near to each other, relative to their size (at least 1).
GAP = 1e-6


class TreeStatus(StrEnum):
    """Where a tree stands."""

    OPEN = "open"
    PROVED = "proved"  # the minimum is above the lower cutoff
    REFUTED = "refuted"  # an input's value, in float64, is at most the upper cutoff
    SOLVED = "solved"  # as near to the minimum as bounds get


@dataclass(frozen=True)
class Cutoffs:
    """When to stop: with a lower bound above ``proved_above``, or an input whose value is at most ``refuted_from``."""

    proved_above: float = math.inf
    refuted_from: float = -math.inf


#: The minimum itself; the sign of a neuron, or its bound; whether a row of a claim is positive.
MINIMUM, SIGN, CLAIM = Cutoffs(), Cutoffs(proved_above=0.0), Cutoffs(proved_above=0.0, refuted_from=0.0)


@dataclass(frozen=True, eq=False)
class _Leaf:
    """Phases, each neuron's branching score, and a basis to go on from."""

    phase: np.ndarray
    scores: np.ndarray
    basis: Any


@dataclass(eq=False)
class Tree:
    """The search for one objective's minimum; ``lower`` and ``upper`` close in on it, at any moment sound.

    ``objective`` has one row, ``known`` is a sound lower bound of it. ``point`` ``(1, *input_shape)`` is an input in
    the region where the objective is ``upper`` in float64: a candidate, for the caller to replay. ``solves`` counts
    linear programs, ``root_bound`` is the bound of the first, ``tree_bound`` the one of all leaves, without ``known``.
    """

    network: Network
    relaxed: RelaxedNetwork
    objective: Objective
    known: float = -math.inf
    cutoffs: Cutoffs = MINIMUM
    upper: float = math.inf
    point: Tensor | None = None
    solves: int = 0
    root_bound: float = -math.inf
    tree_bound: float = -math.inf
    _open: OpenSet[_Leaf] = field(init=False)

    def __post_init__(self) -> None:
        costs, constants = self.relaxed.costs(self.objective)
        self._cost, self._constant = np.ascontiguousarray(costs[0]), float(constants[0])
        self.known = -math.inf if math.isnan(self.known) else self.known
        neurons = len(self.relaxed.triangles)
        self._open = OpenSet([_Leaf(np.zeros(neurons, dtype=np.int8), np.zeros(neurons), None)])

    @property
    def lower(self) -> float:
        """A certified lower bound of the minimum, at any moment."""
        return max(self.known, self.tree_bound)

    @property
    def status(self) -> TreeStatus:
        """The status that the bounds by now amount to."""
        if self.upper <= self.cutoffs.refuted_from:
            return TreeStatus.REFUTED
        if self.lower > self.cutoffs.proved_above:
            return TreeStatus.PROVED
        done = self.lower > self._target or not self._open
        return TreeStatus.SOLVED if done else TreeStatus.OPEN

    @property
    def _target(self) -> float:
        """A leaf is closed once its bound is above this: the lower cutoff, or ``upper`` less the gap."""
        gap = GAP * (1 + abs(self.upper)) if math.isfinite(self.upper) else 0.0
        return min(self.cutoffs.proved_above, self.upper - gap)

    def advance(self, session: PhaseSession, solves: int, deadline: Deadline = Deadline()) -> None:
        """Goes on for about so many linear programs, best leaf first, while there is something to find and time."""
        end = self.solves + solves
        while self.status is TreeStatus.OPEN and self.solves < end and not deadline.passed:
            if self.solves:
                self._branch(session, deadline)
            else:
                self._solve_root(session, deadline)
            self.tree_bound = min(self._open.proved(), self._open.least)

    def _solve_root(self, session: PhaseSession, deadline: Deadline) -> None:
        found = session.root(self._cost, deadline.remaining)
        self.solves, self.root_bound = 1, found.bound + self._constant
        (root,) = self._open.roots
        self._replace(root, [(root.item.phase, found)])

    def _branch(self, session: PhaseSession, deadline: Deadline) -> None:
        (subproblem,) = self._open.take()
        leaf = subproblem.item
        if subproblem.bound > self._target or not (leaf.phase == 0).any():
            self._open.replace(subproblem, (), [subproblem.bound])
            return
        children = self._children(session, leaf, deadline)
        if children is None:
            self._open.put_back(subproblem)
        else:
            self._replace(subproblem, children)

    def _children(
        self, session: PhaseSession, leaf: _Leaf, deadline: Deadline
    ) -> list[tuple[np.ndarray, LPResult]] | None:
        """Both phases of the neuron of the highest score, solved; ``None`` if there was no time for both."""
        neuron = int(np.where(leaf.phase == 0, leaf.scores, -1.0).argmax())
        children, basis = [], leaf.basis
        for side in (-1, 1):
            if deadline.passed:
                return None
            phase = leaf.phase.copy()
            phase[neuron] = side
            cutoff = self._target - self._constant
            found = session.solve(phase, self._cost, basis, cutoff, deadline.remaining)
            self.solves += 1
            children.append((phase, found))
        return children

    def _replace(self, parent: Subproblem[_Leaf], solved: list[tuple[np.ndarray, LPResult]]) -> None:
        """Solved programs become leaves, or are closed where their bounds are above the target; inputs are proposed."""
        leaves, closed = list[tuple[float, _Leaf]](), list[float]()
        for phase, found in solved:
            bound = max(parent.bound, found.bound + self._constant)
            if bound > self._target:
                closed.append(bound)
                continue
            if found.point is not None:
                self._propose(found.point)
            if found.point is not None and found.dual is not None:
                scores = self._scores(found.point, found.dual)
            else:  # nothing to learn from: as its parent
                scores = parent.item.scores
            leaves.append((bound, _Leaf(phase, scores, found.basis)))
        self._open.replace(parent, leaves, closed)

    def _scores(self, point: np.ndarray, dual: np.ndarray) -> np.ndarray:
        """How much the chords cost the bound: multipliers times intercepts; where they have none, the neuron's gap.

        The score of Bunel et al. (*Branch and bound for piecewise linear neural network verification*, JMLR 2020) with
        the program's own multipliers. Neurons without any come after them, those with larger gaps first.
        """
        t = self.relaxed.triangles
        gap = np.abs(point[t.y] - np.maximum(point[t.x], 0.0))
        cost = np.abs(dual[t.above]) * (-t.low * t.high / (t.high - t.low))
        least = cost[cost > 0].min(initial=1.0)
        scale = gap.max(initial=0.0)
        return np.where(cost > 0, cost, least * gap / (2 * scale) if scale > 0 else 0.0)

    def _propose(self, point: np.ndarray) -> None:
        """Takes the program's input for the best one if the network's value there is lower."""
        region = self.relaxed.region
        x = torch.from_numpy(point[: self.relaxed.program.inputs]).to(region.lower).reshape(1, *region.shape)
        x = region.project(x)
        value = float(self.objective.evaluate(self.network.values(x)[self.objective.node])[0, 0])
        if value < self.upper and bool(region.contains(x).all()):
            self.upper, self.point = value, x
