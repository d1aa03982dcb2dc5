"""What bounds by contradiction gain, row by row: before, and after each pass over all layers where the row fails.

    python scripts/study_contradiction.py FOLDER --networks mnist_convsmall --images 4 7 12 41 42

The folder is that of ``compare_single_neuron.py``. One thread. For every row that inner bounds leave open: the part of
its range that lies below zero (from its bound by the dual to its upper bound by DeepPoly), and its bound where it
fails after each pass, with the seconds. Prints a line a row, and writes ``--output``, a CSV with a row a pass.
"""

from __future__ import annotations

import argparse
import csv
import time
from dataclasses import replace
from pathlib import Path

import torch
from compare_single_neuron import BENCHMARKS, images

import kreludomain as kd
from kreludomain.bounding.dual import DualAbstraction
from kreludomain.deadline import Deadline
from kreludomain.domain import InfeasibleBoundsError
from kreludomain.property import Objective


def swept(
    method: kd.KRelu, reached: DualAbstraction, row: Objective, lower: float, passes: int
) -> list[tuple[float, float]]:
    """The row's bound (infinite: there are no inputs where it fails) and the seconds of each pass, until it is
    positive."""
    output_constraints = replace(row, constant=row.constant - 1e-3 * abs(lower))
    here, found = reached, list[tuple[float, float]]()
    while len(found) < passes and not lower > 0:
        start = time.monotonic()
        try:
            here = method.refine_pass(here, output_constraints, Deadline())
            lower = max(lower, float(here.prove(row).lower))
        except InfeasibleBoundsError:
            lower = float("inf")
        found.append((lower, time.monotonic() - start))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", nargs="+", default=["mnist_convsmall"])
    parser.add_argument("--images", nargs="+", type=int, default=[4, 7, 12, 41, 42])
    parser.add_argument("--passes", type=int, default=4)
    parser.add_argument("--output", type=Path, default=Path("contradiction.csv"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    method = kd.KRelu(preset="balanced", passes=0, gain_factor=float("inf"))
    with options.output.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["network", "image", "row", "below_zero", "pass", "bound", "seconds"])
        for benchmark in (b for b in BENCHMARKS if b.network in options.networks):
            network = kd.load(options.folder / "nets" / f"{benchmark.network}.onnx")
            for index, label, x in images(options.folder, benchmark, network):
                if index not in options.images:
                    continue
                region = kd.ball(x, benchmark.epsilon, clip=(0, 1)).fit(network)
                query = kd.Query(network, region, kd.robustness(label, 10))
                objective = query.objective
                reached, minima = method.prove(query)
                for position in (~(minima.lower[0] > 0)).nonzero()[:, 0].tolist():
                    assert isinstance(reached, DualAbstraction)
                    row, lower = objective.rows(position, position + 1), float(minima.lower[0, position])
                    row = row.pulled_back(network)
                    share = -lower / (float(reached.base.extrema(row).upper) - lower)
                    found = swept(method, reached, row, lower, options.passes)
                    for number, (bound, seconds) in enumerate([(lower, 0.0), *found]):
                        writer.writerow([benchmark.network, index, position, share, number, bound, seconds])
                    file.flush()
                    bounds = ", ".join(f"{bound:.2f} ({seconds:.1f} s)" for bound, seconds in found)
                    print(
                        f"{benchmark.network} {index} row {position}: {share:.3f}, {lower:.2f} -> {bounds}", flush=True
                    )


if __name__ == "__main__":
    main()
