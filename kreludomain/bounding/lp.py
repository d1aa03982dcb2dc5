"""LP refinement: triangle (single neurons) and k-ReLU (joint hulls), for margins and for inner bounds.

Singh, Ganvir, Püschel, Vechev, "Beyond the Single Neuron Convex Barrier" (NeurIPS 2019); the triangle alone is the
convex barrier of Salman et al. (NeurIPS 2019).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kreludomain.deadline import Deadline
from kreludomain.domain import (
    Abstraction,
    Bounds,
    DeepPoly,
    Intersection,
    Interval,
    LowerBounds,
    Method,
    Query,
    Zonotope,
)
from kreludomain.domain.relaxation import refinable_neurons
from kreludomain.errors import InputError
from kreludomain.groups import Grouping, GroupingOptions, JointRelaxation, NoGroups, relax_jointly
from kreludomain.programs import (
    FORMULATIONS,
    RelaxedNetwork,
    Solver,
    SolverSession,
    certified_minimum,
    check_solver,
    make_solver,
    relax_network,
)
from kreludomain.property import Objective

#: Methods that bound the inner layers, and the octahedra, before the LP, by name.
BASES: dict[str, Method] = {"interval": Interval(), "zonotope": Zonotope(), "deeppoly": DeepPoly()}


@dataclass(frozen=True, eq=False)
class LPAbstraction(Abstraction):
    """A base abstraction of one region, refined by a linear program with joint relaxations.

    Programs and their solver sessions are made when first needed for a node, and kept.
    """

    base: Abstraction = field(kw_only=True)
    joint: Mapping[str, Sequence[JointRelaxation]] = field(kw_only=True)
    solver: Solver = field(kw_only=True)
    formulation: str = field(default="vertex", kw_only=True)
    _sessions: dict[str, tuple[RelaxedNetwork, SolverSession]] = field(default_factory=dict, kw_only=True)

    def session(self, node: str) -> tuple[RelaxedNetwork, SolverSession]:
        """The relaxation of everything below a node, and the solver's session for its program."""
        if node not in self._sessions:
            relaxed = relax_network(self.base, self.joint, node, self.formulation)
            self._sessions[node] = relaxed, self.solver.prepare(relaxed.program)
        return self._sessions[node]

    def minimise(self, objective: Objective, deadline: Deadline = Deadline()) -> LowerBounds:
        """Certified dual bounds, never below the base's; a solve that fails leaves the base's bound and a note."""
        known = self.base.minimise(objective, deadline)
        return self._solved(objective, known, torch.arange(objective.count), deadline)

    def prove(self, objective: Objective, deadline: Deadline = Deadline()) -> LowerBounds:
        known = self.base.prove(objective, deadline)
        return self._solved(objective, known, (known.lower[0] <= 0).nonzero()[:, 0].cpu(), deadline)

    def _solved(self, objective: Objective, known: LowerBounds, rows: Tensor, deadline: Deadline) -> LowerBounds:
        """The known bounds, with the objectives ``rows`` bounded by the program where that is better."""
        if not len(rows):
            return known
        if deadline.passed:
            return LowerBounds(known.lower, (*known.notes, _late(len(rows))))
        relaxed, session = self.session(objective.node)
        costs, constants = relaxed.costs(objective)
        lower, failures = known.lower.clone(), []
        for done, row in enumerate(rows.tolist()):
            if deadline.passed:
                failures.append(_late(len(rows) - done))
                break
            cost, constant = costs[row], constants[row]
            solution = session.minimise(cost, deadline.remaining)
            if solution.failure is not None:
                failures.append(f"{solution.failure} (the best sound bound is used)")
            if solution.dual is not None:
                value = certified_minimum(relaxed.program, cost, solution.dual) + float(constant)
                lower[0, row] = max(float(lower[0, row]), value if math.isfinite(value) else -math.inf)
        notes = (*known.notes, *relaxed.notes, *self._unlimited(deadline), *failures)
        return LowerBounds(lower, tuple(dict.fromkeys(notes)))

    def _unlimited(self, deadline: Deadline) -> tuple[str, ...]:
        """A note where a deadline is given that the solver cannot keep within an objective."""
        if self.solver.abilities.time_limit or math.isinf(deadline.at):
            return ()
        return (f"solver: {self.solver.name} has no time limit; the deadline is looked at between objectives",)


def _late(count: int) -> str:
    return f"time is up: {count} objectives keep the bound they had"


@dataclass(frozen=True)
class KReluLP(GroupingOptions, Method):
    """k-ReLU: joint relaxations of groups of neurons, and a linear program over them.

    ``k``, ``partition_size``, ``overlap`` and ``grouping``: as in :class:`GroupingOptions`. ``refine``: ``output``
    leaves the inner bounds to ``base``, ``all`` also refines the bounds of every unstable neuron of every layer by two
    LPs each, layer by layer, with ``base`` and the octahedra recomputed from them. ``formulation``: ``vertex`` or
    ``hull``. ``solver``: ``auto``, ``highspy``, or any solver of cvxpy.
    """

    partition_size: int = 20
    grouping: str | Grouping = "area"
    refine: str = "output"
    formulation: str = "vertex"
    solver: str | Solver = "auto"
    base: str = "deeppoly"
    memory_mb: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        tables = {"refine": ("output", "all"), "formulation": FORMULATIONS, "base": BASES}
        for name, allowed in tables.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"{name}: '{getattr(self, name)}' is not one of {', '.join(allowed)}")
        if self.formulation == "hull" and self.k > 3:
            raise InputError(f"formulation: hulls of k = {self.k} neurons take too long; use vertex")
        if self.memory_mb < 1:
            raise InputError(f"memory_mb: {self.memory_mb} is not a number from 1 up")
        check_solver(self.solver)

    @torch.no_grad()
    def abstract(self, query: Query) -> LPAbstraction:
        query.require_one_region("a linear program")
        network, region, deadline = query.network, query.region, query.deadline
        solver = make_solver(self.solver, region)
        base = first = BASES[self.base].abstract(query)
        joint: dict[str, tuple[JointRelaxation, ...]] = {}
        notes: tuple[str, ...] = ()

        def refinement() -> LPAbstraction:
            return LPAbstraction(
                network,
                region,
                base.bounds,
                base=base,
                joint=dict(joint),
                solver=solver,
                formulation=self.formulation,
                notes=tuple(dict.fromkeys(notes)),
            )

        for node in network.pre_activations:
            if self.refine == "all" and joint and not deadline.passed:
                bounds, said = _refined(refinement(), node, deadline)
                notes += said
                again = BASES[self.base].abstract(query.knowing({**base.bounds, node: bounds}))
                base = Intersection(network, region, again.bounds, members=(first, again))
            joint[node] = relax_jointly(base, node, self.make_grouping(), self.memory_mb, deadline)
        return refinement()


def _refined(step: LPAbstraction, node: str, deadline: Deadline) -> tuple[Bounds, tuple[str, ...]]:
    """A node's bounds with its refinable neurons bounded by the program below it, and notes."""
    bounds = step.bounds[node]
    indices = refinable_neurons(step.network, node, bounds)[0].flatten().nonzero()[:, 0]
    if not len(indices):
        return bounds, ()
    objective = Objective.neurons(step.network, node, indices)
    below, above = step.minimise(objective, deadline), step.minimise(-objective, deadline)
    return bounds.tightened(indices, below.lower, -above.lower), below.notes + above.notes


@dataclass(frozen=True)
class TriangleLP(Method):
    """The LP with each neuron's triangle alone, which no single-neuron relaxation over the same bounds can beat.

    With ``refine = all`` every inner bound is such an LP too: the convex barrier. Options as in :class:`KReluLP`.
    """

    refine: str = "output"
    solver: str | Solver = "auto"
    base: str = "deeppoly"
    memory_mb: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        self._as_krelu()  # raises for options that it refuses

    def _as_krelu(self) -> KReluLP:
        return KReluLP(
            refine=self.refine, solver=self.solver, base=self.base, memory_mb=self.memory_mb, grouping=NoGroups()
        )

    def abstract(self, query: Query) -> LPAbstraction:
        return self._as_krelu().abstract(query)
