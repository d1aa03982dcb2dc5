"""The method ``krelu``: its options and presets, and the order in which claims are proved and bounds made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kreludomain.bounding.dual import output_constraints as under
from kreludomain.bounding.dual.abstraction import DualAbstraction
from kreludomain.bounding.dual.batches import ComputeOptions
from kreludomain.bounding.dual.layers import LayerOptions, deeppoly, refine_layers
from kreludomain.bounding.dual.output_constraints import ConstrainedBounds
from kreludomain.bounding.dual.stages import Stage, StageResult, first_result, next_result
from kreludomain.deadline import Deadline
from kreludomain.domain import Abstraction, LowerBounds, Method, PriorBounds, Query
from kreludomain.errors import InputError, did_you_mean
from kreludomain.groups import GroupingOptions
from kreludomain.options import Unlimited
from kreludomain.property import Objective

#: The options that each preset sets where they are not given, from quick to thorough.
PRESETS: Mapping[str, Mapping[str, str | int]] = {
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

#: How many times the gain of the stage before a stage gains at most. Measured on three images of a network of 6 x 100:
#: inner bounds gain 0.5 to 1.1 times as much as joint relaxations over DeepPoly's bounds, and precise octahedra 0.15 to
#: 0.3 times as much as inner bounds.
_GAIN_FACTORS = {"inner bounds": 4.0, "octahedra": 0.3}


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
    ``passes``: how many times all layers are bounded again under the assumption that a row of the claim fails, at most;
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
            raise InputError(
                f"preset: '{self.preset}' is not one of {', '.join(PRESETS)}{did_you_mean(self.preset, PRESETS)}"
            )
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
        self.layer_options  # noqa: B018  raises for groups, a dtype or a device that cannot be made or used

    @property
    def layer_options(self) -> LayerOptions:
        """How the last stage refines layers."""
        return LayerOptions(
            steps=self.steps or 0,
            inner_steps=self.inner_steps or 0,
            octahedron_steps=self.octahedron_steps or 0,
            grouping=self.make_grouping(),
            compute=ComputeOptions(self.dtype, self.device, self.memory_mb),
        )

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of :meth:`prove`: joint relaxations over DeepPoly's bounds, inner bounds, precise octahedra."""
        layers, passes = self.layer_options, self.passes or 0
        stages = [Stage(replace(layers, inner_steps=0, octahedron_steps=0), 0, math.inf)]
        if self.refine == "all":
            passes = passes if layers.inner_steps else 0
            stages.append(
                Stage(replace(layers, octahedron_steps=0), passes, _GAIN_FACTORS["inner bounds"] * self.gain_factor)
            )
            if layers.octahedron_steps:
                stages.append(Stage(layers, passes, _GAIN_FACTORS["octahedra"] * self.gain_factor))
        return tuple(stages)

    @torch.no_grad()
    def abstract(self, query: Query) -> DualAbstraction:
        query.require_one_region("the dual")
        return refine_layers(deeppoly(query), self.stages[-1].layers, query.deadline)

    @torch.no_grad()
    def prove(self, query: Query) -> tuple[Abstraction, LowerBounds]:
        """DeepPoly, then the stages, each over the bounds found so far: as far as the claim needs.

        Rows that are proved are left alone. A stage is not begun that would have to gain far more than such stages do.
        """
        result = self.first_stage(query)
        while (further := self.next_stage(result, query)) is not None:
            result = further
        return result.abstraction, result.lower_bounds

    @torch.no_grad()
    def first_stage(self, query: Query) -> StageResult:
        """DeepPoly alone, from which :meth:`next_stage` goes on."""
        query.require_one_region("the dual")
        return first_result(query, self.stages)

    @torch.no_grad()
    def next_stage(self, result: StageResult, query: Query) -> StageResult | None:
        """The result of the next stage, for the rows that ``result`` leaves open.

        ``None`` where no stage is left, no row is open, the deadline has passed, or the stage is not worth beginning.
        """
        return next_result(self.stages, result, query)

    @torch.no_grad()
    def refine_under(
        self, abstraction: DualAbstraction, clause: Objective, lower: Tensor, deadline: Deadline = Deadline()
    ) -> ConstrainedBounds:
        """A clause by contradiction, in at most ``passes`` passes: see :func:`output_constraints.refine_under`.

        ``lower`` ``(p,)`` are bounds of the clause's rows over the region of ``abstraction``.
        """
        return under.refine_under(abstraction, clause, lower, self.passes or 0, self.layer_options, deadline)

    @torch.no_grad()
    def refine_pass(
        self,
        abstraction: DualAbstraction,
        output_constraints: Objective,
        deadline: Deadline,
        prior_bounds: PriorBounds | None = None,
    ) -> DualAbstraction:
        """All layers bounded again, once, over the inputs where no output constraint is positive: see
        :func:`output_constraints.refine_pass`."""
        return under.refine_pass(abstraction, output_constraints, self.layer_options, deadline, prior_bounds)
