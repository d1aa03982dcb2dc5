"""DeepPoly on the benchmark folder: verified counts and milliseconds an image, on one thread.

    python scripts/bench_deeppoly.py FOLDER [--neurons unstable] [--lower-slope area] [--count 100]

Prints a line a network. Run it in turns with another tool on the same machine for a comparison that holds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from compare_single_neuron import BENCHMARKS, images

import kreludomain as kd


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", nargs="+", default=[b.network for b in BENCHMARKS])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--neurons", default="unstable")
    parser.add_argument("--lower-slope", default="area")
    options = parser.parse_args()
    torch.set_num_threads(1)
    method = kd.DeepPoly(lower_slope=options.lower_slope, neurons=options.neurons)
    for benchmark in (b for b in BENCHMARKS if b.network in options.networks):
        network = kd.load(options.folder / "nets" / f"{benchmark.network}.onnx")
        seconds, verified = [], 0
        for index, label, x in images(options.folder, benchmark, network):
            if index >= options.count:
                break
            region, claim = kd.ball(x, benchmark.epsilon, clip=(0, 1)), kd.robustness(label, 10)
            start = time.perf_counter()
            lower = method.abstract(kd.Query(network, region)).minimise(claim.objective(network)).lower
            seconds.append(time.perf_counter() - start)
            verified += bool(claim.proved(lower).all())
        print(f"{benchmark.network}: verified {verified} of {len(seconds)}, {1e3 * statistics.median(seconds):.1f} ms")


if __name__ == "__main__":
    main()
