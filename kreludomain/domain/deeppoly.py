"""DeepPoly: every pre-activation bounded by back-substitution to the input (Singh et al., POPL 2019; CROWN)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kreludomain.deadline import Deadline
from kreludomain.domain.abstraction import Abstraction, Known, Minima, cut, prepare
from kreludomain.domain.backward import Step, back_substitute
from kreludomain.domain.bounds import Bounds, LayerBounds
from kreludomain.domain.interval import interval
from kreludomain.domain.relaxation import anchors, differences, linear_step, maximum_step, open_neurons
from kreludomain.domain.relu import LOWER_SLOPES, ConstantStep
from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.network.operators import AffineOperator, Input, PairMaximum
from kreludomain.spec import Box, Objective, Region, chunk_rows


@dataclass(frozen=True, eq=False)
class BackwardAbstraction(Abstraction):
    """Bounds of every node and, for every activation and maximum, the step that stands for it in back-substitution."""

    steps: Mapping[str, Step] = field(kw_only=True)
    memory_mb: int = field(default=16, kw_only=True)

    def minimise(self, objective: Objective, deadline: Deadline = Deadline()) -> Minima:
        # To the input, and to the nearest activations only: never looser than interval analysis on the same bounds.
        near = {name: ConstantStep(self.bounds[name]) for name in anchors(self.network)}
        return Minima(torch.maximum(self._through(objective, self.steps), self._through(objective, near)), self.notes)

    def neurons(self, node: str, indices: Tensor) -> Bounds:
        """Bounds ``(B, m)`` of neurons by back-substitution to the input alone; ``indices`` ``(m,)``, at least one."""
        parts = []
        for part in indices.split(self._rows_at_once(node)):
            objective = Objective.neurons(self.network, node, part).pulled_back(self.network)
            parts.append((self._through(objective, self.steps), -self._through(-objective, self.steps)))
        lower, upper = (torch.cat(side, dim=1) for side in zip(*parts, strict=True))
        return Bounds(lower, upper)

    def _through(self, objective: Objective, steps: Mapping[str, Step]) -> Tensor:
        parts = objective.chunks(self._rows_at_once(objective.node))
        return torch.cat([back_substitute(self.network, part, steps, self.region) for part in parts], dim=1)

    def _rows_at_once(self, node: str) -> int:
        return chunk_rows(self.network, node, self.region.batch, self.memory_mb)


@dataclass(frozen=True)
class DeepPoly:
    """Back-substitution with one line below and the chord above each unstable neuron.

    ``lower_slope``: the rule for the line below, ``area`` (0 or 1, whichever leaves the smaller triangle), ``parallel``
    (to the chord) or ``zero``. ``neurons``: ``all``, or ``unstable`` to back-substitute only neurons whose sign
    interval analysis leaves open (stable neurons keep wider bounds, which hardly ever matters to others); where an
    S-shaped activation follows, all. Of what maxima compare, the unstable in any case.
    ``memory_mb`` bounds the coefficients held at once.
    """

    lower_slope: str = "area"
    neurons: str = "all"
    memory_mb: int = 16

    def __post_init__(self) -> None:
        if self.lower_slope not in LOWER_SLOPES:
            raise InputError(f"lower_slope: '{self.lower_slope}' is not one of {', '.join(LOWER_SLOPES)}")
        if self.neurons not in ("all", "unstable"):
            raise InputError(f"neurons: '{self.neurons}' is not one of all, unstable")
        if self.memory_mb < 1:
            raise InputError(f"memory_mb: {self.memory_mb} is not a number from 1 up")

    @torch.no_grad()
    def abstract(
        self, network: Network, region: Region, known: Known | None = None, deadline: Deadline = Deadline()
    ) -> BackwardAbstraction:
        region, known = prepare(network, region, known)
        bounds = {network.input.name: Bounds(region.lower, region.upper)}
        steps: dict[str, Step] = {}
        wanted = {*network.pre_activations, network.output.name}
        for node in network.nodes:
            if node.inputs:
                bounds[node.name] = interval(node.operator, *(bounds[name] for name in node.inputs))
            bounds[node.name] = cut(node.name, bounds[node.name], known)
            if node in network.activations:
                steps[node.name] = linear_step(node.operator, bounds[node.inputs[0]], self.lower_slope)
            if isinstance(node.operator, PairMaximum):
                a, b, relu = node.inputs
                steps[node.name] = maximum_step(bounds[a], bounds[b], bounds[network[relu].inputs[0]])
            late = deadline.passed  # intervals have to do
            if node.name in wanted and not late and not _interval_is_exact(network, node.name, region):
                below = BackwardAbstraction(network, region, LayerBounds(bounds), steps=steps, memory_mb=self.memory_mb)
                bounds[node.name] = self._back_substituted(below, node.name)
        return BackwardAbstraction(network, region, LayerBounds(bounds), steps=steps, memory_mb=self.memory_mb)

    def _back_substituted(self, abstraction: BackwardAbstraction, name: str) -> Bounds:
        """The bounds of a node cut with those that back-substitution through the layers below gives."""
        bounds = abstraction.bounds[name]
        chosen = torch.ones_like(bounds.lower[0], dtype=torch.bool)
        sign_alone = self.neurons == "unstable" or name in differences(abstraction.network)
        if sign_alone and name != abstraction.network.output.name:
            chosen = open_neurons(abstraction.network, name, bounds).any(0)
        indices = chosen.flatten().nonzero()[:, 0]
        if not len(indices):
            return bounds
        found = abstraction.neurons(name, indices)
        return bounds.replace(indices, found.lower, found.upper)


def _interval_is_exact(network: Network, name: str, region: Region) -> bool:
    """Whether interval bounds of a node are already exact: a box, and one chain of affine operators from the input.

    At most one operator of the chain may mix entries (``monomial`` ones pass intervals without loss).
    """
    nodes = network.upto(name)
    mixing = [n for n in nodes if isinstance(n.operator, AffineOperator) and not n.operator.monomial]
    chain = all(isinstance(n.operator, AffineOperator | Input) and len(n.inputs) <= 1 for n in nodes)
    return isinstance(region, Box) and chain and len(mixing) <= 1
