"""DeepPoly: every pre-activation bounded by back-substitution to the input (Singh et al., POPL 2019; CROWN)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor

from kreludomain.activations import LOWER_SLOPES, BackwardRelaxation, ReluRelaxation
from kreludomain.deadline import Deadline
from kreludomain.domain.abstraction import Abstraction, LowerBounds, intersect
from kreludomain.domain.backward import back_substitute
from kreludomain.domain.bounds import Bounds, LayerBounds
from kreludomain.domain.interval import interval
from kreludomain.domain.method import Method
from kreludomain.domain.query import Query
from kreludomain.domain.relaxation import (
    ConstantRelaxation,
    cut_nodes,
    maximum_relaxation,
    maxpool_differences,
    refinable_neurons,
)
from kreludomain.domain.rounding import Rounding
from kreludomain.domain.twins import TwinLines, TwinRelaxation, differences
from kreludomain.errors import InputError
from kreludomain.network import Network, Node
from kreludomain.network.operators import Activation, AffineOperator, Concat, Input, PairMaximum
from kreludomain.property import Objective, Region, chunk_rows


@dataclass(frozen=True, eq=False)
class BackwardAbstraction(Abstraction):
    """Bounds of every node, and the relaxations of all activations and maxima, for back-substitution."""

    relaxations: Mapping[str, BackwardRelaxation] = field(kw_only=True)
    memory_mb: int = field(default=16, kw_only=True)
    rounding_norms: dict[str, Tensor | None] = field(default_factory=dict, kw_only=True)

    @cached_property
    def rounding(self) -> Rounding:
        return Rounding(self.network, self.bounds, self.rounding_norms)

    def minimise(self, objective: Objective, deadline: Deadline = Deadline()) -> LowerBounds:
        # To the input, and to the nearest activations only, so that no bound is looser than interval analysis.
        near = {name: ConstantRelaxation(self.bounds[name]) for name in cut_nodes(self.network)}
        return LowerBounds(
            torch.maximum(self._through(objective, self.relaxations), self._through(objective, near)), self.notes
        )

    def neurons(self, node: str, indices: Tensor) -> Bounds:
        """Bounds ``(B, m)`` of neurons by back-substitution to the input alone; ``indices`` ``(m,)``, at least one."""
        return self._to_input(node, indices, partial(Objective.neurons, self.network, node))

    def differences(self, node: str, pairs: Tensor) -> Bounds:
        """Bounds ``(B, P)`` of ``x_i - x_j`` for pairs ``(P, 2)``, at least one, of a node's neurons: likewise."""
        return self._to_input(node, pairs, partial(differences, self.network, node))

    def _to_input(self, node: str, chosen: Tensor, made: Callable[[Tensor], Objective]) -> Bounds:
        parts = []
        for part in chosen.split(self._rows_at_once(node)):
            objective = made(part).pulled_back(self.network)
            parts.append((self._through(objective, self.relaxations), -self._through(-objective, self.relaxations)))
        lower, upper = (torch.cat(side, dim=1) for side in zip(*parts, strict=True))
        return Bounds.computed(lower, upper)

    def _through(self, objective: Objective, relaxations: Mapping[str, BackwardRelaxation]) -> Tensor:
        parts = objective.chunks(self._rows_at_once(objective.node))
        return torch.cat(
            [back_substitute(self.network, part, relaxations, self.region, self.rounding) for part in parts], dim=1
        )

    def _rows_at_once(self, node: str) -> int:
        return chunk_rows(self.network, node, self.region.batch, self.memory_mb)


@dataclass(frozen=True)
class DeepPoly(Method):
    """Back-substitution with one line below and the chord above each unstable neuron.

    ``lower_slope``: the rule for the line below, ``area`` (0 or 1, whichever leaves the smaller triangle), ``parallel``
    (to the chord) or ``zero``. ``neurons``: ``all``, or ``unstable`` to back-substitute only neurons whose sign
    interval analysis leaves open (stable neurons keep wider bounds, which hardly ever matters to others); before an
    activation of which more than the sign matters, all. Of differences that a maximum takes, only the unstable are
    back-substituted in any case. ``memory_mb`` bounds the coefficients held at once.
    """

    lower_slope: str = "area"
    neurons: str = "all"
    memory_mb: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lower_slope not in LOWER_SLOPES:
            raise InputError(f"lower_slope: '{self.lower_slope}' is not one of {', '.join(LOWER_SLOPES)}")
        if self.neurons not in ("all", "unstable"):
            raise InputError(f"neurons: '{self.neurons}' is not one of all, unstable")
        if self.memory_mb < 1:
            raise InputError(f"memory_mb: {self.memory_mb} is not a number from 1 up")

    @torch.no_grad()
    def abstract(self, query: Query) -> BackwardAbstraction:
        network, region = query.network, query.region
        bounds = {network.input.name: Bounds(region.lower, region.upper)}
        relaxations: dict[str, BackwardRelaxation] = {}
        norms: dict[str, Tensor | None] = {}  # all layers share them, since bounds below a layer are final
        wanted = {*network.pre_activations, network.output.name}
        for node in network.nodes:
            if node.inputs:
                bounds[node.name] = interval(node.operator, *(bounds[name] for name in node.inputs))
            bounds[node.name] = intersect(node.name, bounds[node.name], query.prior_bounds)
            if isinstance(node.operator, Activation):
                pre = bounds[node.inputs[0]]
                relaxations[node.name] = node.operator.function.relax(pre.lower, pre.upper, self.lower_slope)
                if not query.deadline.passed:
                    below = self._abstraction(network, region, bounds, relaxations, norms)
                    relaxations[node.name] = _with_twins(relaxations[node.name], below, node.inputs[0])
            if isinstance(node.operator, PairMaximum):
                a, b, relu = node.inputs
                relaxations[node.name] = maximum_relaxation(bounds[a], bounds[b], bounds[network[relu].inputs[0]])
            late = query.deadline.passed  # then interval bounds are kept
            if node.name in wanted and not late and not _interval_is_exact(network, node.name, region):
                below = self._abstraction(network, region, bounds, relaxations, norms)
                bounds[node.name] = self._back_substituted(below, node.name)
            if isinstance(node.operator, Concat):  # what is known of a value is known of what it is made of
                bounds |= _parts(node.operator, node, bounds)
        return self._abstraction(network, region, bounds, relaxations, norms)

    def _abstraction(
        self,
        network: Network,
        region: Region,
        bounds: Mapping[str, Bounds],
        relaxations: Mapping[str, BackwardRelaxation],
        norms: dict[str, Tensor | None],
    ) -> BackwardAbstraction:
        return BackwardAbstraction(
            network,
            region,
            LayerBounds(bounds),
            relaxations=relaxations,
            memory_mb=self.memory_mb,
            rounding_norms=norms,
        )

    def _back_substituted(self, abstraction: BackwardAbstraction, name: str) -> Bounds:
        """A node's bounds, tightened by back-substitution through the layers below."""
        bounds = abstraction.bounds[name]
        chosen = torch.ones_like(bounds.lower[0], dtype=torch.bool)
        sign_alone = self.neurons == "unstable" or name in maxpool_differences(abstraction.network)
        if sign_alone and name != abstraction.network.output.name:
            chosen = refinable_neurons(abstraction.network, name, bounds).any(0)
        indices = chosen.flatten().nonzero()[:, 0]
        if not len(indices):
            return bounds
        found = abstraction.neurons(name, indices)
        return bounds.tightened(indices, found.lower, found.upper)


def _with_twins(single: BackwardRelaxation, below: BackwardAbstraction, node: str) -> BackwardRelaxation:
    """The relaxation of the ReLU of a node with that of its twins, if it has any whose signs are not decided."""
    bounds, pairs = below.bounds[node], below.network.twins.get(node)
    if pairs is None or not isinstance(single, ReluRelaxation):
        return single
    unstable = bounds.unstable.flatten(1).any(0)
    pairs = pairs[unstable[pairs].all(1)]
    if not len(pairs):
        return single
    return TwinRelaxation(single, TwinLines.of(pairs, below.differences(node, pairs), bounds))


def _parts(operator: Concat, node: Node, bounds: Mapping[str, Bounds]) -> dict[str, Bounds]:
    """The bounds of the values that a node joins, intersected with its own."""
    own = bounds[node.name]
    parts = zip(*(operator.transpose(side) for side in (own.lower, own.upper)), strict=True)
    return {name: bounds[name] & Bounds(*part) for name, part in zip(node.inputs, parts, strict=True)}


def _interval_is_exact(network: Network, name: str, region: Region) -> bool:
    """Whether interval bounds of a node are already exact: a box, and one chain of affine operators from the input.

    At most one operator of the chain may mix entries (``row_sparse`` ones pass intervals without loss).
    """
    nodes = network.ancestors(name)
    mixing = [n for n in nodes if isinstance(n.operator, AffineOperator) and not n.operator.row_sparse]
    chain = all(isinstance(n.operator, AffineOperator | Input) and len(n.inputs) <= 1 for n in nodes)
    return region.is_box and chain and len(mixing) <= 1
