"""Many objectives: in batches that fit the memory, each over the groups that it reaches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.bounding.dual.ascent import DualAscent, StopRule, maximise_dual
from kreludomain.bounding.dual.multipliers import Multipliers
from kreludomain.bounding.dual.problem import DualProblem
from kreludomain.deadline import Deadline
from kreludomain.errors import InputError
from kreludomain.options import Options
from kreludomain.property import Objective

#: Objectives of a convolution in one batch, at most: neighbours in space, so that they reach few groups.
_NEIGHBOURS = 128


@dataclass(frozen=True)
class ComputeOptions(Options):
    """How steps are computed: their ``dtype`` (float32 or float64), ``device``, and ``memory_mb`` at once.

    Bounds are certified in float64 on the network's own device in any case.
    """

    dtype: str = "float32"
    device: str = "cpu"
    memory_mb: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dtype not in ("float32", "float64"):
            raise InputError(f"dtype: '{self.dtype}' is not one of float32, float64")
        if self.memory_mb < 1:
            raise InputError(f"memory_mb: {self.memory_mb} is not a number from 1 up")
        try:
            torch.empty(0, dtype=torch.float32, device=self.device)
        except (RuntimeError, AssertionError) as error:  # which of them depends on how torch was built
            reason = str(error).splitlines()[0]
            raise InputError(f"device: '{self.device}' cannot be used: {reason}") from None

    def fast(self, problem: DualProblem) -> DualProblem:
        """A problem in the dtype and on the device of the steps."""
        return problem.to(getattr(torch, self.dtype), torch.device(self.device))

    def rows(self, problem: DualProblem) -> int:
        """How many objectives fit the memory."""
        sizes = [problem.network.size(node.name) for node in problem.network.nodes]
        a_row = 14 * problem.slots + 2 * sum(sizes)  # multipliers, gradients, moments, sizes; coefficients and values
        return max(1, self.memory_mb * 2**20 // (8 * a_row))


@torch.no_grad()
def bound(
    problem: DualProblem,
    objective: Objective,
    ascent: DualAscent,
    compute: ComputeOptions = ComputeOptions(),
    stop_rule: StopRule | None = None,
    deadline: Deadline = Deadline(),
    block: int = 1,
) -> tuple[Tensor, Multipliers]:
    """Sound lower bounds ``(m,)`` of the objectives, and multipliers that prove them.

    Each ``block`` of neighbouring objectives stays together, so that ``stop_rule`` sees it whole. The bounds of
    objectives that come after the deadline are minus infinity.
    """
    lower = problem.region.lower.new_empty(objective.count)
    multipliers = Multipliers.zeros(problem.slots, problem.constraint_count, objective.count, lower)
    for rows in _batches(objective, compute.rows(problem), block):
        if deadline.passed:
            lower[rows] = -torch.inf
            continue
        part = objective.select(rows)
        local, kept = problem.restricted(part)
        lower[rows], found = maximise_dual(local, compute.fast(local), part, ascent, stop_rule, deadline)
        multipliers.put(rows, found, kept)
    return lower, multipliers


def _batches(objective: Objective, most: int, block: int) -> Iterator[Tensor]:
    """The objectives' positions in batches of whole blocks; of a convolution, neighbours in space are together."""
    device = objective.coefficients.device
    blocks = torch.arange(objective.count, device=device).view(-1, block)
    if objective.coefficients.dim() == 5:  # (1, m, channels, height, width)
        place = objective.coefficients[0, ::block].abs().sum(1).flatten(1).argmax(1)
        blocks, most = blocks[place.argsort(stable=True)], min(most, _NEIGHBOURS)
    for some in blocks.split(max(1, most // block)):
        yield some.flatten()
