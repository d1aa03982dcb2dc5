"""The vertex dual against the linear program that it is the dual of: the same groups and octahedra, in one run.

    python scripts/bench_dual.py FOLDER --images 3 0 1 4 --networks mnist_6x100 --solvers highspy --steps 60 100 200 300

The folder is that of ``compare_single_neuron.py``. All margins of an image are bounded, with DeepPoly's bounds inside,
by the triangle program, by the joint program with each solver, and by the dual with each number of steps. *Share* is
how much of the way from the triangles (what optimised slopes can reach) to the joint program a margin came, the least
of all margins; *ratio* is the first solver's time over the dual's. One thread; building programs and duals is not
counted for either.

Writes ``dual.csv`` and ``dual.png`` into ``--output`` and prints a line a measurement.
"""

from __future__ import annotations

import argparse
import csv
import time
from dataclasses import dataclass, fields
from pathlib import Path

import matplotlib
import torch
from compare_single_neuron import BENCHMARKS, Benchmark, images

import kreludomain as kd
from kreludomain.bounding.dual import ComputeOptions, DualAbstraction, DualAscent

matplotlib.use("agg")
from matplotlib import pyplot


@dataclass(frozen=True)
class Row:
    """One way of bounding all margins of one image; ``bound`` is the worst."""

    network: str
    index: int
    way: str
    bound: float
    share: float
    seconds: float
    ratio: float


def timed(abstraction: kd.Abstraction, objective: kd.Objective) -> tuple[torch.Tensor, float]:
    """All bounds, ``(m,)``, and the seconds they took once everything is built."""
    abstraction.minimise(objective.rows(0, 1))
    start = time.perf_counter()
    lower = abstraction.minimise(objective).lower[0]
    return lower, time.perf_counter() - start


def measure(
    network: kd.Network,
    benchmark: Benchmark,
    index: int,
    region: kd.Region,
    objective: kd.Objective,
    options: argparse.Namespace,
) -> list[Row]:
    triangle, seconds = timed(kd.TriangleLP().abstract(kd.Query(network, region)), objective)
    found = {"triangle LP": (triangle, seconds)}
    relaxed = kd.KReluLP(k=options.k, partition_size=options.partition_size).abstract(kd.Query(network, region))
    for solver in options.solvers:
        method = kd.KReluLP(k=options.k, partition_size=options.partition_size, solver=solver)
        found[f"LP, {solver}"] = timed(method.abstract(kd.Query(network, region)), objective)
    for steps in options.steps:
        dual = DualAbstraction(
            network,
            relaxed.region,
            relaxed.bounds,
            base=relaxed.base,
            joint={node: tuple(same) for node, same in relaxed.joint.items()},
            ascent=DualAscent(steps),
            compute=ComputeOptions(options.dtype),
        )
        found[f"dual, {steps} steps"] = timed(dual, objective)
    best, slowest = found[f"LP, {options.solvers[0]}"]
    rows = []
    for way, (lower, took) in found.items():
        share = float(((lower - triangle) / (best - triangle).clamp(min=1e-9)).min())
        rows.append(Row(benchmark.network, index, way, float(lower.min()), share, took, slowest / took))
    return rows


def plot(rows: list[Row], path: Path) -> None:
    """Share of the gap against time, relative to the first solver's, a line an image."""
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for name, index in dict.fromkeys((row.network, row.index) for row in rows):
        mine = [r for r in rows if (r.network, r.index) == (name, index) and r.way.startswith("dual")]
        axes.plot([r.ratio for r in mine], [100 * r.share for r in mine], marker="o", label=f"{name}, image {index}")
    axes.axhline(99, color="grey", linewidth=0.8, linestyle=":")
    axes.axvline(50, color="grey", linewidth=0.8, linestyle=":")
    axes.set(
        xscale="log",
        xlabel="how many times faster than the linear program",
        ylabel="% of the gap from triangles to the joint program",
        title="The vertex dual with more and more steps",
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower left")
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", nargs="+", default=["mnist_6x100"])
    parser.add_argument("--images", type=int, nargs="+", default=[3, 0, 1, 4])
    parser.add_argument("--solvers", nargs="+", default=["highspy"], help="the first is what the dual is compared with")
    parser.add_argument("--steps", type=int, nargs="+", default=[30, 60, 100, 150, 200, 300])
    parser.add_argument("--k", type=int, default=3)
    parser.add_argument("--partition-size", type=int, default=20)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--output", type=Path, default=Path("runs/bench_dual"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    with (options.output / "dual.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(Row))
        for benchmark in (b for b in BENCHMARKS if b.network in options.networks):
            network = kd.load(options.folder / "nets" / f"{benchmark.network}.onnx")
            for index, label, x in images(options.folder, benchmark, network):
                if index not in options.images:
                    continue
                region = kd.ball(x, benchmark.epsilon, clip=(0, 1))
                objective = kd.robustness(label, 10).objective(network)
                for row in measure(network, benchmark, index, region, objective, options):
                    rows.append(row)
                    writer.writerow(vars(row).values())
                    print(
                        f"{row.network} image {row.index}, {row.way}: worst margin {row.bound:.4f}, "
                        f"share {row.share:.4f}, {row.seconds:.2f} s, ratio {row.ratio:.1f}",
                        flush=True,
                    )
                file.flush()
    plot(rows, options.output / "dual.png")


if __name__ == "__main__":
    main()
