"""Ways to maximise the vertex dual, on the same duals with as many evaluations: what the optimiser was chosen from.

    python scripts/study_optimiser.py FOLDER --networks mnist_6x100 mnist_convsmall cifar_convsmall --count 12

The folder is that of ``compare_single_neuron.py``. The first ``--count`` images of each network that DeepPoly does not
verify, all margins of each, DeepPoly's bounds inside, one thread. *Share*: how much of the way from the same dual over
single neurons (optimised slopes) to the best bound known (of any way here, and of ``--long`` steps of the product's) a
margin came. Prints, for each network, way and number of steps, the median and the least share over all margins of all
images, and writes ``--output``, a CSV with a row an image.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from compare_single_neuron import BENCHMARKS, images
from torch import Tensor

import kreludomain as kd
from kreludomain.bounding.dual import ComputeOptions, DualAbstraction, DualAscent, DualProblem, maximise_dual

#: A way: the problem in float64, the objective and the number of steps in, bounds ``(m,)`` out.
Way = Callable[[DualProblem, kd.Objective, int], Tensor]


@dataclass(frozen=True)
class Adam:
    """Adam on the smoothed dual. Everything falls geometrically from its first value to its last.

    ``per_slot``, ``per_layer``: how much of a step is in units of the slot's own coefficient, and of its layer's mean
    (neither: all slots alike). ``shared``: second moments are means over the objectives.
    """

    temperature: tuple[float, float] = (0.3, 0.0003)
    step_size: tuple[float, float] = (0.3, 0.003)
    momentum: float = 0.9
    per_slot: float = 0.0
    per_layer: float = 0.0
    shared: bool = False

    def __call__(self, problem: DualProblem, objective: kd.Objective, steps: int) -> Tensor:
        walk = _Walk(problem, objective, self.per_slot, self.per_layer)
        mean, square = torch.zeros_like(walk.variables), torch.zeros_like(walk.variables)
        for n in range(steps):
            done = n / max(1, steps - 1)
            temperature, step_size = (
                first * (last / first) ** done for first, last in (self.temperature, self.step_size)
            )
            gradient = walk.gradient(walk.variables, temperature)
            mean.lerp_(gradient, 1 - self.momentum)
            found = (gradient**2).mean(2, keepdim=True) if self.shared else gradient**2
            square.lerp_(found.expand_as(square), 0.05)
            spread = (square / (1 - 0.95 ** (n + 1))).sqrt() + 1e-8
            walk.variables += step_size / (1 - self.momentum ** (n + 1)) * walk.scale * mean / spread
        return walk.certified()


@dataclass(frozen=True)
class Accelerated:
    """Nesterov's gradient method on the smoothed dual: the lower the temperature, the shorter the steps."""

    temperature: tuple[float, float] = (0.3, 0.003)
    length: float = 0.3

    def __call__(self, problem: DualProblem, objective: kd.Objective, steps: int) -> Tensor:
        walk = _Walk(problem, objective, 0.5, 1.0)
        before, first, last = walk.variables.clone(), *self.temperature
        for n in range(steps):
            temperature = first * (last / first) ** (n / max(1, steps - 1))
            ahead = walk.variables + n / (n + 3) * (walk.variables - before)
            before = walk.variables
            walk.variables = ahead + self.length * temperature * walk.scale**2 / walk.unit * walk.gradient(
                ahead, temperature
            )
        return walk.certified()


class _Walk:
    """Where a way is: ``variables`` ``(2, S, m)``, allocations and slope offsets, in float32."""

    def __init__(self, problem: DualProblem, objective: kd.Objective, per_slot: float, per_layer: float) -> None:
        self.exact, self.objective, self.problem = problem, objective, ComputeOptions().fast(problem)
        self.rough = objective.to(self.problem.region.lower)
        self.constraint = self.problem.constraint_scale(self.rough)
        reference = self.problem.reference(self.rough, self.constraint)
        self.reference, size = reference.slope, reference.size
        self.unit = size.mean(0)
        layers = [v.mean(0, keepdim=True).expand_as(v) for v in self.problem.per_activation(size).values()]
        scale = per_slot * size + per_layer * torch.cat(layers)
        self.scale = scale if per_slot or per_layer else self.unit.expand_as(size)
        self.variables = size.new_zeros(2, *size.shape)

    def gradient(self, variables: Tensor, temperature: float) -> Tensor:
        """Of the value smoothed at a temperature relative to the size of coefficients."""
        return self.problem.value_and_gradients(
            self.rough, variables, self.constraint, self.reference, temperature * self.unit
        )[1]

    def certified(self) -> Tensor:
        allocation, offset = self.variables
        found = self.problem.multipliers(self.rough, allocation, offset, self.constraint, self.reference)
        return self.exact.certified(self.objective, found)


def product(problem: DualProblem, objective: kd.Objective, steps: int) -> Tensor:
    return maximise_dual(problem, ComputeOptions().fast(problem), objective, DualAscent(steps))[0]


#: Exact minima are what is left of smoothing when next to nothing is.
WAYS: dict[str, Way] = {
    "Adam, exact minima": Adam(temperature=(1e-6, 1e-6)),
    "Adam, temperature 0.3": Adam(temperature=(0.3, 0.3)),
    "Adam, temperature 0.3 to 0.01": Adam(temperature=(0.3, 0.01)),
    "Adam, temperature 0.3 to 0.0003": Adam(),
    "the same, steps by layer": Adam(per_layer=1.0),
    "the same, steps by slot": Adam(per_slot=1.0),
    "the same, steps by slot and layer": Adam(per_slot=0.5, per_layer=1.0),
    "the same, second moments shared": Adam(per_slot=0.5, per_layer=1.0, shared=True),
    "accelerated gradient, 0.3 to 0.003": Accelerated(),
    "the product": product,
}


def of_margins(abstraction: DualAbstraction, claim: kd.Claim) -> tuple[DualProblem, kd.Objective]:
    """The dual over everything below the margins, and the margins there."""
    objective = claim.objective(abstraction.network).pulled_back(abstraction.network)
    return abstraction.problem(objective.node), objective


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", nargs="+", default=["mnist_6x100", "mnist_convsmall", "cifar_convsmall"])
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--steps", type=int, nargs="+", default=[50, 100, 200])
    parser.add_argument("--long", type=int, default=1000)
    parser.add_argument("--output", type=Path, default=Path("optimiser.csv"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with torch.no_grad(), options.output.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["network", "image", "way", "steps", "median_share", "least_share", "seconds"])
        for benchmark in (b for b in BENCHMARKS if b.network in options.networks):
            network = kd.load(options.folder / "nets" / f"{benchmark.network}.onnx")
            shares, seconds = dict[tuple[str, int], list[float]](), dict[tuple[str, int], list[float]]()
            left = options.count
            for index, label, x in images(options.folder, benchmark, network):
                region, claim = kd.ball(x, benchmark.epsilon, clip=(0, 1)), kd.robustness(label, 10)
                objective = claim.objective(network)
                if not left or bool(
                    (kd.DeepPoly().abstract(kd.Query(network, region)).minimise(objective).lower > 0).all()
                ):
                    continue
                left -= 1
                single, joint = (kd.KRelu(preset="fast", k=k).abstract(kd.Query(network, region)) for k in (1, 3))
                slopes = product(*of_margins(single, claim), options.long)
                problem, margins = of_margins(joint, claim)
                best, found = product(problem, margins, options.long), dict[tuple[str, int], tuple[Tensor, float]]()
                for name, way in WAYS.items():
                    for steps in options.steps:
                        start = time.perf_counter()
                        lower = way(problem, margins, steps)
                        found[name, steps] = lower, time.perf_counter() - start
                        best = torch.fmax(best, lower)
                for (name, steps), (lower, took) in found.items():
                    share = ((lower - slopes) / (best - slopes).clamp(min=1e-9)).tolist()
                    shares.setdefault((name, steps), []).extend(share)
                    seconds.setdefault((name, steps), []).append(took)
                    writer.writerow([benchmark.network, index, name, steps, statistics.median(share), min(share), took])
                file.flush()
            for (name, steps), values in shares.items():
                took = statistics.median(seconds[name, steps])
                print(
                    f"{benchmark.network}, {name}, {steps} steps: median {statistics.median(values):.3f}, "
                    f"least {min(values):.3f}, {took:.2f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
