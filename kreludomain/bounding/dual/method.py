"""k-ReLU by the vertex dual: inner bounds layer by layer, octahedra, groups, and margins."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from kreludomain.bounding.dual.ascent import DualAscent, StopRule
from kreludomain.bounding.dual.batches import ComputeOptions, bound
from kreludomain.bounding.dual.grouped import grouped
from kreludomain.bounding.dual.problem import DualProblem, Multipliers
from kreludomain.deadline import Deadline
from kreludomain.domain import (
    Abstraction,
    Bounds,
    DeepPoly,
    InfeasibleBoundsError,
    Intersection,
    LowerBounds,
    Method,
    PriorBounds,
    Query,
)
from kreludomain.domain.relaxation import refinable_neurons
from kreludomain.errors import InputError
from kreludomain.groups import GroupingOptions, JointRelaxation, relax_jointly
from kreludomain.network.operators import Activation
from kreludomain.options import Unlimited
from kreludomain.property import Objective


@dataclass(frozen=True, eq=False)
class DualAbstraction(Abstraction):
    """A base abstraction of one region, refined by the vertex dual over joint relaxations.

    ``joint`` has the joint relaxations of pre-activation nodes; neurons in none keep their triangle.
    """

    base: Abstraction = field(kw_only=True)
    joint: Mapping[str, tuple[JointRelaxation, ...]] = field(kw_only=True)
    ascent: DualAscent = field(kw_only=True)
    compute: ComputeOptions = field(kw_only=True)
    _problems: dict[str, DualProblem] = field(default_factory=dict, kw_only=True)

    def problem(self, node: str) -> DualProblem:
        """The dual over everything below a node, in float64."""
        if node not in self._problems:
            relaxations = {}
            for activation in self.network.ancestors(node):
                if isinstance(activation.operator, Activation):
                    source, function = activation.inputs[0], activation.operator.function
                    joint = self.joint.get(source, ())
                    relaxations[activation.name] = grouped(function, self.bounds[source], joint)
            self._problems[node] = DualProblem(self.network, self.region, relaxations, self.rounding)
        return self._problems[node]

    def problem_of(self, objective: Objective, output_constraints: Objective | None) -> DualProblem:
        """The dual for an objective, where none of a output constraints' expressions is positive if there is one."""
        return (
            self.problem(objective.node)
            if output_constraints is None
            else self.problem(output_constraints.node).constrained_by(output_constraints)
        )

    def minimise(self, objective: Objective, deadline: Deadline = Deadline()) -> LowerBounds:
        """Certified bounds, never below the base's, whenever the deadline comes."""
        return self.base.minimise(objective, deadline) | self._bounded(objective, None, deadline)

    def prove(self, objective: Objective, deadline: Deadline = Deadline()) -> LowerBounds:
        known = self.base.prove(objective, deadline)
        rows = (~(known.lower[0] > 0)).nonzero()[:, 0]
        lower = known.lower.clone()
        if len(rows):
            found = self._bounded(objective.select(rows), lambda bounds: bounds > 0, deadline)
            lower[0, rows] = torch.fmax(lower[0, rows], found.lower[0])
        return LowerBounds(lower, known.notes)

    def neurons(
        self, node: str, indices: Tensor, deadline: Deadline = Deadline(), output_constraints: Objective | None = None
    ) -> tuple[Bounds, Multipliers]:
        """Bounds ``(1, m)`` of neurons, and what proves them: columns are lower and upper bound of each in turn.

        A neuron is left at once when its sign is decided, unless a curve takes it. With ``output_constraints``, bounds
        are those where none of its expressions is positive.
        """
        stop_rule = None if self.network.feeds_smooth(node) else _sign_decided
        ahead = Objective.neurons(self.network, node, indices)
        coefficients, constant = (
            torch.stack([v, -v], dim=2).flatten(1, 2) for v in (ahead.coefficients, ahead.constant)
        )
        both = Objective(node, coefficients, constant)
        objective = both.pulled_back(self.network)
        problem = self.problem_of(objective, output_constraints)
        lower, proofs = bound(problem, objective, self.ascent, self.compute, stop_rule, deadline, block=2)
        return Bounds(lower[None, 0::2], -lower[None, 1::2]), proofs

    def _bounded(self, objective: Objective, stop_rule: StopRule | None, deadline: Deadline) -> LowerBounds:
        objective = objective.pulled_back(self.network)
        lower, _ = bound(self.problem(objective.node), objective, self.ascent, self.compute, stop_rule, deadline)
        return LowerBounds(lower[None])


def _sign_decided(lower: Tensor) -> Tensor:
    """Whether one of a neuron's two bounds, ``x`` and ``-x`` from below in turn, is positive."""
    return (lower > 0).view(-1, 2).any(1).repeat_interleave(2)


@dataclass(frozen=True, eq=False)
class CombinedMultipliers(Abstraction):
    """``base``, with expressions at one node bounded by adding up multipliers that bound its neurons.

    Multipliers of ``x_a`` plus those of ``x_b`` are multipliers of ``x_a + x_b``; their bound is never worse than the
    sum of both bounds, and takes one evaluation. ``columns`` ``(n,)``: where the multipliers of each neuron of the node
    are (-1: there are none).
    """

    base: Abstraction = field(kw_only=True)
    node: str = field(kw_only=True)
    problem: DualProblem = field(kw_only=True)
    proofs: Multipliers = field(kw_only=True)
    columns: Tensor = field(kw_only=True)
    compute: ComputeOptions = field(kw_only=True)

    def minimise(self, objective: Objective, deadline: Deadline = Deadline()) -> LowerBounds:
        return self._lower(objective, objective.pulled_back(self.network), deadline)

    def extrema(self, objective: Objective, deadline: Deadline = Deadline()) -> Bounds:
        ahead = objective.pulled_back(self.network)
        lower, upper = self._lower(objective, ahead, deadline), self._lower(-objective, -ahead, deadline)
        return Bounds(lower.lower, -upper.lower)

    def _lower(self, objective: Objective, ahead: Objective, deadline: Deadline) -> LowerBounds:
        """Of the objectives, which ``ahead`` are pulled back."""
        known = self.base.minimise(ahead, deadline)
        if objective.node != self.node or deadline.passed:
            return known
        most = self.compute.rows(self.problem)
        parts = zip(objective.chunks(most), ahead.chunks(most), strict=True)
        return known | LowerBounds(torch.cat([self._added_up(*part) for part in parts])[None])

    def _added_up(self, objective: Objective, ahead: Objective) -> Tensor:
        rows = objective.coefficients[0].flatten(1)
        most = max(1, int((rows != 0).sum(1).max()))
        size, neuron = rows.abs().topk(most, dim=1)
        below = rows.gather(1, neuron) < 0  # the neuron's upper bound is what is needed
        column = torch.where(self.columns[neuron] >= 0, 2 * self.columns[neuron] + below.long(), -1)
        total = self.proofs.combine(column.clamp(min=0), torch.where(column >= 0, size, 0.0))
        return self.problem.certified(ahead, total)


@dataclass(frozen=True)
class _Stage:
    """Steps for inner bounds (0: DeepPoly's stay) and for octahedra (0: superposed), and when it is worth beginning.

    ``hope``: how many times the gain of the stage before the worst margin may lack. Measured on three images
    of a network of 6 x 100: inner bounds gain 0.5 to 1.1 times what joint relaxations over DeepPoly's bounds did,
    octahedra 0.15 to 0.3 times what inner bounds did.
    """

    inner_steps: int
    octahedron_steps: int
    hope: float


#: What the presets set, from quick to thorough.
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {
        "refine": "output",
        "partition_size": 20,
        "inner_steps": 0,
        "octahedron_steps": 0,
        "passes": 0,
        "steps": 100,
    },
    "balanced": {
        "refine": "all",
        "partition_size": 20,
        "inner_steps": 60,
        "octahedron_steps": 0,
        "passes": 3,
        "steps": 200,
    },
    "tight": {
        "refine": "all",
        "partition_size": 15,
        "inner_steps": 60,
        "octahedron_steps": 20,
        "passes": 6,
        "steps": 200,
    },
}


@dataclass(frozen=True)
class KRelu(GroupingOptions, Method):
    """k-ReLU by the vertex dual: the bounds of the linear program over joint hulls, without hulls and without a
    program.

    ``preset``: ``fast``, ``balanced`` or ``tight`` sets whatever of the following is not given (``None``).

    ``refine``: ``output`` leaves inner bounds to DeepPoly, ``all`` also bounds every unstable neuron by the dual, layer
    by layer, which is where most of the precision comes from, and of the time goes.
    ``k``, ``partition_size``, ``overlap`` and ``grouping``: as in :class:`GroupingOptions`; time grows with the number
    of groups.
    ``steps``, ``inner_steps``: of the ascent for outputs and for inner neurons. 60 close about 93 % of the gap between
    triangles and the linear program, 100 97 %, 200 99 %.
    ``octahedron_steps``: of the ascent for each direction of an octahedron; 0 adds up what bounds the neurons, which
    takes one step's time. Precise octahedra are worth more than many groups, and cost the most.
    ``passes``: how many times all layers are bounded anew under the assumption that a row of the claim fails, at most;
    only where there is a claim, and only for rows that come near (:meth:`refine_under`).
    ``gain_factor``: a stage is begun when the worst row lacks at most this many times what such a stage is expected to
    gain; at 1e9, say, all stages are gone through, unless the claim is proved.
    ``dtype``, ``device``: of the steps, ``float32`` or ``float64``; whatever they are, bounds are certified in float64.
    ``memory_mb`` bounds what is held at once: more makes larger batches.
    """

    preset: str = "balanced"
    refine: str | None = None
    steps: int | None = None
    inner_steps: int | None = None
    octahedron_steps: int | None = None
    passes: int | None = None
    gain_factor: Unlimited = 1.0
    dtype: str = "float32"
    device: str = "cpu"
    memory_mb: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.preset not in PRESETS:
            raise InputError(f"preset: '{self.preset}' is not one of {', '.join(PRESETS)}")
        for name, value in PRESETS[self.preset].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.refine not in ("output", "all"):
            raise InputError(f"refine: '{self.refine}' is not one of output, all")
        for name in ("steps", "inner_steps", "octahedron_steps", "passes"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}: {getattr(self, name)} is not a number from 0 up")
        if not self.gain_factor >= 0:
            raise InputError(f"gain_factor: {self.gain_factor} is not a number from 0 up")
        self.make_grouping()  # raises if the preset's partitions are smaller than k
        self._compute()  # raises for a dtype or device that cannot be used

    def _compute(self) -> ComputeOptions:
        return ComputeOptions(self.dtype, self.device, self.memory_mb)

    @torch.no_grad()
    def abstract(self, query: Query) -> DualAbstraction:
        query.require_one_region("the dual")
        return self._refined(_DEEPPOLY.abstract(query), self._stages()[-1], query.deadline)

    @torch.no_grad()
    def prove(self, query: Query) -> tuple[Abstraction, LowerBounds]:
        """DeepPoly, then stages that cost more each, over the bounds found so far: as far as the claim needs.

        What is proved leaves. A stage that would have to gain far more than stages like it do is not begun.
        """
        reached: StageResult | None = self.first_stage(query)
        while reached is not None:
            last, reached = reached, self.next_stage(reached, query)
        return last.abstraction, last.lower_bounds

    @torch.no_grad()
    def first_stage(self, query: Query) -> StageResult:
        """What DeepPoly alone comes to, from which :meth:`next_stage` goes on."""
        query.require_one_region("the dual")
        first = _DEEPPOLY.abstract(query)
        return StageResult(first, first.prove(query.objective, query.deadline), torch.inf, len(self._stages()))

    @torch.no_grad()
    def next_stage(self, reached: StageResult, query: Query) -> StageResult | None:
        """What the next stage comes to; ``None`` where there is none, nothing is open, or it is not worth beginning.

        Only the objectives that ``reached`` leaves open are bounded.
        """
        objective, deadline, minima = query.objective, query.deadline, reached.lower_bounds
        rows = (~(minima.lower[0] > 0)).nonzero()[:, 0]
        if not reached.stages_left or not len(rows) or deadline.passed:
            return None
        stage, worst = self._stages()[-reached.stages_left], float(minima.lower.min())
        if worst < -stage.hope * self.gain_factor * reached.gain:
            return None
        open_ = objective.select(rows)
        here = self._refined(self._over(reached.abstraction, deadline), stage, deadline, reached.dual, open_)
        if deadline.passed:
            return replace(reached, abstraction=here, stages_left=0)
        found = here.prove(open_, deadline)
        lower = minima.lower.clone()
        lower[0, rows] = torch.fmax(lower[0, rows], found.lower[0])
        minima, gain = LowerBounds(lower, minima.notes + found.notes), float(lower.min()) - worst
        if stage.inner_steps:
            minima = self._row_by_row(here, objective, minima, deadline)
        return StageResult(here, minima, gain, reached.stages_left - 1)

    def _row_by_row(
        self, reached: DualAbstraction, objective: Objective, minima: LowerBounds, deadline: Deadline
    ) -> LowerBounds:
        """Rows that are open, the worst first: if that one cannot be proved, the others need not be."""
        lower = minima.lower.clone()
        rows = (~(lower[0] > 0)).nonzero()[:, 0]
        for row in rows[lower[0, rows].argsort()].tolist():
            found = self.refine_under(reached, objective.rows(row, row + 1), lower[0, row : row + 1], deadline)
            lower[0, row] = found.everywhere[0]
            if not found.proved:
                break
        return LowerBounds(lower, minima.notes)

    @torch.no_grad()
    def refine_under(
        self,
        reached: DualAbstraction,
        clause: Objective,
        known: Tensor,
        deadline: Deadline = Deadline(),
    ) -> ConstrainedBounds:
        """A clause by contradiction: everything is bounded where all its rows fail, up to ``passes`` times.

        Inner bounds are tighter there, by which the rows' bounds are; if one of those is positive, or bounds cross,
        there is no such input. ``known`` ``(p,)`` bound the rows. Not begun where little of what the rows may be is
        left out, and not gone on with where that gains too little.

        The constraint on outputs: Kotha, Brix, Kolter, Dvijotham, Zhang, "Provably bounding neural network preimages"
        (NeurIPS 2023).
        """
        clause = clause.pulled_back(reached.network)
        # Far above what rounding does to the constants.
        at_most = max(_LITTLE * float(known.max().abs()), 1e-9 * (1 + float(clause.constant.abs().max())))
        output_constraints = replace(clause, constant=clause.constant - at_most)
        here, lower, gain = reached, known, math.inf
        lacks = -known / (reached.base.extrema(clause).upper[0].to(known) - known)
        passes = (self.passes or 0) if bool((lacks < _NEAR).any()) else 0
        for done in range(passes):
            lacking = -float(lower.max())
            if deadline.passed or not lacking < _REACH * gain * (passes - done):
                break
            try:
                refine_pass = self.refine_pass(here, output_constraints, deadline)
                found = refine_pass.prove(clause, deadline).lower[0]
            except InfeasibleBoundsError:
                return ConstrainedBounds(None, lower, at_most)
            if deadline.passed:
                break
            here, better = refine_pass, torch.fmax(found, lower)
            gain, lower = float(better.max()) + lacking, better
            if bool((lower > 0).any()):
                break
        return ConstrainedBounds(here, lower, at_most)

    def refine_pass(
        self,
        reached: DualAbstraction,
        output_constraints: Objective,
        deadline: Deadline,
        known: PriorBounds | None = None,
    ) -> DualAbstraction:
        """The abstraction of the inputs where none of ``output_constraints`` is positive: all layers bounded anew,
        once.

        ``reached`` is an abstraction of those inputs, ``known`` are bounds that are tighter than its. One that is 0 is
        a split: the neuron stays in groups, so that all layers gain from it. Raises :class:`InfeasibleBoundsError`
        where it shows that there are no such inputs.
        """
        known = reached.bounds if known is None else known
        first = _DEEPPOLY.abstract(_query(reached, known, deadline))
        stage = _Stage((self.inner_steps or 0) // 2, 0, torch.inf)
        return self._refined(first, stage, deadline, reached, output_constraints=output_constraints)

    def _over(self, reached: Abstraction, deadline: Deadline) -> Abstraction:
        """DeepPoly over the bounds that an earlier stage came to."""
        if isinstance(reached, DualAbstraction):
            return _DEEPPOLY.abstract(_query(reached, reached.bounds, deadline))
        return reached

    def _stages(self) -> tuple[_Stage, ...]:
        """What :meth:`prove` goes through; the last one is what :meth:`abstract` does at once."""
        inner, octahedra = self.inner_steps or 0, self.octahedron_steps or 0
        stages = [_Stage(0, 0, torch.inf)]
        if self.refine == "all":
            stages.append(_Stage(inner, 0, 4.0))
            if octahedra:
                stages.append(_Stage(inner, octahedra, 0.3))
        return tuple(stages)

    def _refined(
        self,
        first: Abstraction,
        stage: _Stage,
        deadline: Deadline,
        before: DualAbstraction | None = None,
        objective: Objective | None = None,
        output_constraints: Objective | None = None,
    ) -> DualAbstraction:
        """Joint relaxations of every layer over ``first``, each layer's bounds refined before if the stage does so.

        A layer whose bounds stay what they were ``before`` keeps its relaxations, and so do all that are left when
        DeepPoly over the bounds so far proves all of the ``objective``. With ``output_constraints``, all layers act on
        each, those behind it by their relaxations ``before``.
        """
        network, region = first.network, first.region
        base, joint = first, dict[str, tuple[JointRelaxation, ...]]({} if before is None else before.joint)
        for position, node in enumerate(network.pre_activations):
            if deadline.passed:
                break
            below = self._dual(base, joint, stage.inner_steps)
            directions: Abstraction = base
            unstable = refinable_neurons(network, node, base.bounds[node])[0].flatten().nonzero()[:, 0]
            acted_on = position > 0 if output_constraints is None else bool(joint) and self._worth(base, node, unstable)
            if stage.inner_steps and acted_on and len(unstable):
                found, proofs = below.neurons(node, unstable, deadline, output_constraints)
                refined = _cut(base.bounds[node], unstable, found)
                again = _DEEPPOLY.abstract(_query(base, {**base.bounds, node: refined}, deadline))
                base = Intersection(network, region, again.bounds, members=(first, again))
                if output_constraints is not None and bool((again.minimise(output_constraints).lower > 0).any()):
                    raise InfeasibleBoundsError("the output_constraints does not hold: there are no such inputs")
                if objective is not None and bool((base.minimise(objective).lower > 0).all()):
                    break
                if stage.octahedron_steps:
                    directions = self._dual(base, joint, stage.octahedron_steps)
                else:
                    directions = self._superposed(base, node, unstable, below, proofs, output_constraints)
            elif before is not None and node in joint and _same(before.bounds[node], base.bounds[node]):
                continue
            joint[node] = relax_jointly(directions, node, self.make_grouping(), self.memory_mb, deadline)
        return self._dual(base, joint, self.steps or 0)

    def _worth(self, base: Abstraction, node: str, unstable: Tensor) -> bool:
        """Whether a layer is bounded anew under output constraints: not where it has more to bound than all layers
        behind it.

        That is a first convolution, whose neurons see little of the input each: what happens at the output hardly
        concerns them.
        """
        names = base.network.pre_activations
        behind = sum(int(base.bounds[name].unstable.sum()) for name in names[names.index(node) + 1 :])
        return len(unstable) <= max(behind, _FEW)

    def _superposed(
        self,
        base: Abstraction,
        node: str,
        unstable: Tensor,
        below: DualAbstraction,
        proofs: Multipliers,
        output_constraints: Objective | None,
    ) -> CombinedMultipliers:
        columns = torch.full((base.network.size(node),), -1, device=unstable.device)
        columns[unstable] = torch.arange(len(unstable), device=unstable.device)
        pulled = Objective.neurons(base.network, node, unstable[:1]).pulled_back(base.network)
        problem = below.problem_of(pulled, output_constraints)
        return CombinedMultipliers(
            base.network,
            base.region,
            base.bounds,
            base=base,
            node=node,
            problem=problem,
            proofs=proofs,
            columns=columns,
            compute=self._compute(),
        )

    def _dual(self, base: Abstraction, joint: Mapping[str, tuple[JointRelaxation, ...]], steps: int) -> DualAbstraction:
        return DualAbstraction(
            base.network,
            base.region,
            base.bounds,
            notes=base.notes,
            base=base,
            joint=dict(joint),
            ascent=DualAscent(steps),
            compute=self._compute(),
        )


@dataclass(frozen=True, eq=False)
class StageResult:
    """What some stages of :meth:`KRelu.prove` came to, what the last of them gained for the worst objective, and how
    many are left."""

    abstraction: Abstraction
    lower_bounds: LowerBounds
    gain: float
    stages_left: int

    @property
    def dual(self) -> DualAbstraction | None:
        """The abstraction, unless no stage was gone through."""
        return self.abstraction if isinstance(self.abstraction, DualAbstraction) else None


@dataclass(frozen=True, eq=False)
class ConstrainedBounds:
    """What came of assuming that all rows of a clause are at most ``at_most``, which is positive.

    ``abstraction`` of the inputs where they are (``None``: there are none), and the rows' bounds ``(p,)`` there.
    """

    abstraction: DualAbstraction | None
    lower: Tensor
    at_most: float

    @property
    def proved(self) -> bool:
        """Whether the clause holds: where the assumption does not, one of its rows is above ``at_most``."""
        return self.abstraction is None or bool((self.lower > 0).any())

    @property
    def everywhere(self) -> Tensor:
        """Bounds of the row of a clause that has one, ``(1,)``, over the whole region."""
        if self.abstraction is None:
            return torch.full_like(self.lower, self.at_most / 2)
        return self.lower.clamp(max=self.at_most / 2)


def _cut(bounds: Bounds, indices: Tensor, found: Bounds) -> Bounds:
    """Bounds cut with what was found of some neurons. Raises :class:`InfeasibleBoundsError` where both cannot be
    true."""
    slack = 1e-6 * (1.0 + torch.maximum(bounds.lower.abs(), bounds.upper.abs()).flatten(1)[:, indices])
    lower = torch.maximum(found.lower, bounds.lower.flatten(1)[:, indices])
    upper = torch.minimum(found.upper, bounds.upper.flatten(1)[:, indices])
    if bool((lower > upper + slack).any()):
        raise InfeasibleBoundsError("bounds cross: there are no such inputs")
    return bounds.replace(indices, found.lower, found.upper)


def _query(reached: Abstraction, prior_bounds: PriorBounds, deadline: Deadline) -> Query:
    return Query(reached.network, reached.region, prior_bounds=prior_bounds, deadline=deadline)


def _same(a: Bounds, b: Bounds) -> bool:
    return torch.equal(a.lower, b.lower) and torch.equal(a.upper, b.upper)


#: A clause is assumed to fail by this much less than its bounds lack, relatively: what it is then known to exceed.
_LITTLE = 1e-3
#: The part of a row's range, from its lower bound to its upper, that may lie below zero. Measured: up to 0.05 one sweep
#: proves the row, about 0.1 some do, from 0.28 on nothing is gained (MNIST ConvSmall and 6x100, docs/measurements.md).
_NEAR = 0.25
#: How many times what the last sweep gained the next one may be expected to, if there is a contradiction to be found.
_REACH = 3.0
#: Neurons of a layer that are bounded anew under output constraints in any case.
_FEW = 100

#: What bounds all layers before the dual does; stable neurons need no more than their sign.
_DEEPPOLY = DeepPoly(neurons="unstable")
