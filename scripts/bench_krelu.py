"""Vertices of pieces and joint hulls of groups of a network: how many, and milliseconds a group, on one thread.

    python scripts/bench_krelu.py BENCHMARKS [--image 3] [--hulls 20] [--runs 7]

Octahedra come from DeepPoly on MNIST 6x100 at radius 0.026, groups of k by area, partitions of 20, overlap at most 1,
of all layers but the first. Vertices are timed ``--runs`` times, hulls once.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from compare_single_neuron import BENCHMARKS, images
from rich.console import Console
from rich.table import Table

import kreludomain as kd
from kreludomain.groups import Octahedra, joint_hull, octahedra, piece_vertices

#: How many groups of each size are timed: for larger ones fewer, again and again the same where a network has not so
#: many.
COUNTS = {1: 1000, 2: 1000, 3: 1000, 4: 40, 5: 4}
#: The largest groups whose hulls are computed.
HULLS = 3


def groups_of(abstraction: kd.Abstraction, k: int) -> Octahedra:
    """Octahedra of ``COUNTS[k]`` groups of k neurons."""
    grouping, found = kd.ByArea(k=k, partition_size=20, overlap=min(1, k - 1)), []
    for node in abstraction.network.pre_activations[1:]:
        whole = [same for same in grouping.groups(abstraction, node) if same.shape[1] == k]
        found += [octahedra(abstraction, node, same[: COUNTS[k]]) for same in whole]
    lower, upper = (torch.cat([getattr(o, side) for o in found]) for side in ("lower", "upper"))
    chosen = torch.arange(COUNTS[k]) * max(1, len(lower) // COUNTS[k]) % len(lower)
    return Octahedra(torch.arange(COUNTS[k] * k).view(-1, k), lower[chosen], upper[chosen])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--image", type=int, default=3)
    parser.add_argument("--hulls", type=int, default=20, help="how many of the groups get a hull")
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    benchmark = BENCHMARKS[0]
    network = kd.load(options.folder / "nets" / f"{benchmark.network}.onnx")
    x = next(x for index, _, x in images(options.folder, benchmark, network) if index == options.image)
    abstraction = kd.DeepPoly().abstract(kd.Query(network, kd.ball(x, benchmark.epsilon, clip=(0, 1))))
    table = Table(
        "k", "groups", "vertices", "ms for all: least, median", "ms a group", "facets", "hull, ms a group", "exact"
    )
    for k, count in COUNTS.items():
        groups, seconds = groups_of(abstraction, k), []
        for _ in range(options.runs):
            start = time.perf_counter()
            vertices = piece_vertices(groups)
            seconds.append(time.perf_counter() - start)
        lengths = [len(group.unique(dim=0)) for group in vertices]
        hulls = []
        start = time.perf_counter()
        if k <= HULLS:
            hulls = [joint_hull(group) for group in vertices[: options.hulls]]
        hull_ms = 1e3 * (time.perf_counter() - start) / max(1, len(hulls))
        facets = [len(hull.offsets) for hull in hulls]
        table.add_row(
            str(k),
            str(count),
            f"{min(lengths)}-{max(lengths)}, median {statistics.median(lengths):g}",
            f"{1e3 * min(seconds):.1f}, {1e3 * statistics.median(seconds):.1f}",
            f"{1e3 * min(seconds) / count:.4f}",
            f"{min(facets)}-{max(facets)}" if facets else "",
            f"{hull_ms:.1f}" if hulls else "",
            f"{sum(hull.exact for hull in hulls)} of {len(hulls)}" if hulls else "",
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
