"""Many objectives at once: in runs that fit memory, each over the groups that it reaches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.bounding.dual.ascent import DualAscent, StopRule, maximise_dual
from kreludomain.bounding.dual.problem import DualProblem, Multipliers
from kreludomain.deadline import Deadline
from kreludomain.errors import InputError
from kreludomain.options import Options
from kreludomain.property import Objective

#: Objectives of a convolution that are climbed together: few places, so that few groups are reached.
_NEIGHBOURS = 128


@dataclass(frozen=True)
class ComputeOptions(Options):
    """Where and how steps are made: ``dtype`` (float32 or float64), ``device``, and ``memory_mb`` at once.

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
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:  # which of them depends on how torch was built
            reason = str(error).splitlines()[0]
            raise InputError(f"device: '{self.device}' cannot be used: {reason}") from None

    def fast(self, problem: DualProblem) -> DualProblem:
        """A problem as steps are made on it."""
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

    Objectives stay together in blocks of ``block``, which ``stop_rule`` sees whole. Those that the deadline leaves no
    time for are bounded by minus infinity.
    """
    lower = problem.region.lower.new_empty(objective.count)
    proofs = Multipliers.zeros(problem.slots, problem.constraint_count, objective.count, lower)
    for rows in _runs(objective, compute.rows(problem), block):
        if deadline.passed:
            lower[rows] = -torch.inf
            continue
        part = objective.select(rows)
        local, kept = problem.restricted(part)
        lower[rows], found = maximise_dual(local, compute.fast(local), part, ascent, stop_rule, deadline)
        proofs.put(rows, found, kept)
    return lower, proofs


def _runs(objective: Objective, most: int, block: int) -> Iterator[Tensor]:
    """Positions of objectives that go together: whole blocks, neighbours in space where there is space."""
    device = objective.coefficients.device
    blocks = torch.arange(objective.count, device=device).view(-1, block)
    if objective.coefficients.dim() == 5:  # (1, m, channels, height, width)
        place = objective.coefficients[0, ::block].abs().sum(1).flatten(1).argmax(1)
        blocks, most = blocks[place.argsort(stable=True)], min(most, _NEIGHBOURS)
    for some in blocks.split(max(1, most // block)):
        yield some.flatten()
