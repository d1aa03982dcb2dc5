"""Verified counts and seconds of one method on the benchmark folder, several processes side by side.

    python scripts/bench_eran.py FOLDER --method krelu:preset=tight --networks mnist_6x100 --first 0 --count 100

The folder is that of ``compare_single_neuron.py``. Every process has one thread. Rows are written as images finish, in
``--output``: ``eran.csv`` (a row an image) and ``eran.png`` (how many images are verified within which time). Prints a
line a network: verified, falsified, median, mean and largest seconds, and the largest memory of a process.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import resource
import statistics
import sys
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import matplotlib
import torch
from compare_single_neuron import BENCHMARKS, Benchmark, images, parsed

import kreludomain as kd

matplotlib.use("agg")
from matplotlib import pyplot


@dataclass(frozen=True)
class Task:
    """One image."""

    folder: Path
    benchmark: Benchmark
    index: int
    method: str
    timeout_s: float | None
    attack: bool


@dataclass(frozen=True)
class Row:
    """What became of it; ``stages``: the seconds of each, ``memory_mb``: the most that its process held so far."""

    network: str
    index: int
    verdict: str
    margin: float
    seconds: float
    memory_mb: int
    stages: str


@lru_cache(maxsize=1)
def loaded(folder: Path, benchmark: Benchmark) -> tuple[kd.Network, dict[int, tuple[int, torch.Tensor]]]:
    """The network, and label and input of each image that it classifies right."""
    network = kd.load(folder / "nets" / f"{benchmark.network}.onnx")
    return network, {index: (label, x) for index, label, x in images(folder, benchmark, network)}


def solve(task: Task) -> Row:
    torch.set_num_threads(1)
    network, inputs = loaded(task.folder, task.benchmark)
    label, x = inputs[task.index]
    region, claim = kd.ball(x, task.benchmark.epsilon, clip=(0, 1)), kd.robustness(label, 10)
    method = parsed(task.method).method
    result = kd.certify(network, region, claim, method, timeout_s=task.timeout_s, attack=task.attack)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    margin = float(result.lower_bounds.min())
    stages = "; ".join(f"{name} {seconds:.2f}" for name, seconds in result.stages.items())
    return Row(task.benchmark.network, task.index, str(result.verdict), margin, result.seconds, memory, stages)


def plot(rows: list[Row], method: str, path: Path) -> None:
    """Verified images within so many seconds, a line a network."""
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for name in dict.fromkeys(row.network for row in rows):
        seconds = sorted(row.seconds for row in rows if row.network == name and row.verdict == "verified")
        axes.step([*seconds, max(row.seconds for row in rows)], [*range(1, len(seconds) + 1), len(seconds)], label=name)
    axes.set(xscale="log", xlabel="seconds an image", ylabel="images verified within", title=method)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--method", default="krelu", help="name:key=value,...")
    parser.add_argument("--networks", nargs="+", default=[b.network for b in BENCHMARKS])
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=None, help="seconds for one image")
    parser.add_argument("--attack", action="store_true", help="look for counterexamples too")
    parser.add_argument("--output", type=Path, default=Path("runs/bench_eran"))
    options = parser.parse_args()
    try:
        parsed(options.method)
    except kd.InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    options.output.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    with (options.output / "eran.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(Row))
        for benchmark in (b for b in BENCHMARKS if b.network in options.networks):
            _, inputs = loaded(options.folder, benchmark)
            wanted = [i for i in inputs if options.first <= i < options.first + options.count]
            tasks = [
                Task(options.folder, benchmark, i, options.method, options.timeout, options.attack) for i in wanted
            ]
            mine = []
            with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
                for row in pool.imap_unordered(solve, tasks):
                    mine.append(row)
                    writer.writerow(vars(row).values())
                    file.flush()
            rows += mine
            seconds = [row.seconds for row in mine]
            print(
                f"{benchmark.network}: verified {sum(row.verdict == 'verified' for row in mine)} of {len(mine)}, "
                f"falsified {sum(row.verdict == 'falsified' for row in mine)}, "
                f"median {statistics.median(seconds):.2f} s, mean {statistics.mean(seconds):.2f} s, "
                f"largest {max(seconds):.1f} s, {max(row.memory_mb for row in mine)} MB",
                flush=True,
            )
    plot(rows, options.method, options.output / "eran.png")


if __name__ == "__main__":
    main()
