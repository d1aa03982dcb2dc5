"""Vertices of pieces and joint hulls on the groups of one layer: how many, and milliseconds a group, on one thread.

    python scripts/bench_krelu.py BENCHMARKS [--image 3] [--layer 3] [--hulls 20]

Octahedra come from DeepPoly on MNIST 6x100 at radius 0.026, groups of k by area, chunks of 20, overlap at most 1.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from compare_single_neuron import BENCHMARKS, images
from rich.console import Console
from rich.table import Table

import kreludomain as kd
from kreludomain.krelu import joint_hull, piece_vertices, relax_jointly


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--image", type=int, default=3)
    parser.add_argument("--layer", type=int, default=3, help="the hidden layer, from 0")
    parser.add_argument("--hulls", type=int, default=20, help="how many of the groups get a hull")
    options = parser.parse_args()
    torch.set_num_threads(1)
    benchmark = BENCHMARKS[0]
    network = kd.load(options.folder / "nets" / f"{benchmark.network}.onnx")
    x = next(x for index, _, x in images(options.folder, benchmark, network) if index == options.image)
    abstraction = kd.DeepPoly().abstract(network, kd.ball(x, benchmark.epsilon, clip=(0, 1)))
    node = network.pre_activations[options.layer]
    table = Table("k", "groups", "vertices", "ms a group", "facets", "hull, ms a group", "exact hulls")
    for k in (1, 2, 3):
        joint = relax_jointly(abstraction, node, kd.ByArea(k=k, chunk=20, overlap=min(1, k - 1)))[-1]
        start = time.perf_counter()
        vertices = piece_vertices(joint.octahedra)
        vertex_ms = 1e3 * (time.perf_counter() - start) / len(vertices)
        start = time.perf_counter()
        hulls = [joint_hull(group) for group in vertices[: options.hulls]]
        hull_ms = 1e3 * (time.perf_counter() - start) / len(hulls)
        counts = [len(group.unique(dim=0)) for group in vertices]
        facets = [len(hull.offsets) for hull in hulls]
        table.add_row(
            str(k),
            str(len(vertices)),
            f"{min(counts)}-{max(counts)}",
            f"{vertex_ms:.3f}",
            f"{min(facets)}-{max(facets)}",
            f"{hull_ms:.1f}",
            f"{sum(hull.exact for hull in hulls)} of {len(hulls)}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
