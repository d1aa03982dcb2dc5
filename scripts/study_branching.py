"""What the steps of a subproblem gain: bounds of halves from their parents' multipliers, by step size and steps.

    python scripts/study_branching.py FOLDER --networks mnist_6x100 --images 19

The folder is that of ``compare_single_neuron.py``. One thread. All rows that the preset ``fast`` leaves open are split,
each at the three neurons that promise most, and both halves are bounded: what they gain over their parent on average
after ``--steps`` steps of each first size, and what a step of all of them together takes. Prints a line an image.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from compare_single_neuron import BENCHMARKS, images
from torch import Tensor

import kreludomain as kd
from kreludomain.bounding.dual import ComputeOptions, DualAbstraction, DualAscent, Multipliers, SplitDual
from kreludomain.branching.neurons import TEMPERATURE
from kreludomain.property import Objective

ROOT, NEURONS = DualAscent(60), 3


def halves(dual: SplitDual, objective: Objective) -> tuple[Objective, Tensor, Multipliers, Tensor]:
    """The halves' objectives, signs ``(N, m)`` and parents' multipliers, and their parents' bounds ``(m,)``."""
    whole = torch.zeros(dual.neurons, objective.count, dtype=torch.int8)
    lower, root = dual.solve(objective, whole, ROOT)
    scores, _ = dual.branching_scores(objective, whole, root)
    neurons = scores.topk(NEURONS, dim=0).indices  # (3, m)
    parent = torch.arange(objective.count).repeat(2 * NEURONS)
    signs = whole[:, parent]
    signs[neurons.repeat(2, 1).flatten(), torch.arange(len(parent))] = torch.tensor(
        [1, -1], dtype=torch.int8
    ).repeat_interleave(NEURONS * objective.count)
    return objective.select(parent), signs, root.rows(parent), lower[parent]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", nargs="+", default=["mnist_6x100"])
    parser.add_argument("--images", nargs="+", type=int, default=[19])
    parser.add_argument("--steps", nargs="+", type=int, default=[15, 30])
    parser.add_argument("--sizes", nargs="+", type=float, default=[0.05, 0.1, 0.15, 0.25, 0.4])
    options = parser.parse_args()
    torch.set_num_threads(1)
    for benchmark in (b for b in BENCHMARKS if b.network in options.networks):
        network = kd.load(options.folder / "nets" / f"{benchmark.network}.onnx")
        for index, label, x in images(options.folder, benchmark, network):
            if index not in options.images:
                continue
            region = kd.ball(x, benchmark.epsilon, clip=(0, 1)).fit(network)
            query = kd.Query(network, region, kd.robustness(label, 10))
            objective = query.objective
            reached, minima = kd.KRelu(preset="fast", gain_factor=float("inf")).prove(query)
            open_ = (~(minima.lower[0] > 0)).nonzero()[:, 0]
            if not len(open_):
                continue
            assert isinstance(reached, DualAbstraction)
            objective = objective.select(open_).pulled_back(network)
            dual = SplitDual.of(reached.problem(objective.node), ComputeOptions())
            parts, signs, start, before = halves(dual, objective)
            for steps in options.steps:
                gains, began = list[str](), time.monotonic()
                for size in options.sizes:
                    lower, _ = dual.solve(parts, signs, DualAscent(steps, size, TEMPERATURE), start)
                    gains.append(f"{size}: {float((lower - before).mean()):.4f}")
                each = (time.monotonic() - began) / (steps * len(options.sizes)) * 1e3
                print(
                    f"{benchmark.network} {index}: {parts.count} halves of {float(before.min()):.2f}, {steps} steps of "
                    f"{each:.1f} ms, gain {', '.join(gains)}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
