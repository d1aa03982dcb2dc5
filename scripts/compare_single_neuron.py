"""Joint relaxations against single-neuron bounds on a folder of benchmark networks.

The folder has the layout of the ERAN collection: ``nets/*.onnx``, ``mnist_test_100.csv`` and ``cifar10_test_100.csv``
(rows: label, pixels 0..255; CIFAR rows are height, width, channel). For every network and method it counts verified
images and takes the median time of an image; margins are on the same images, so methods compare one to one.

    python scripts/compare_single_neuron.py FOLDER --methods deeppoly lp krelu-lp --networks mnist_6x100 --count 20

A method may have options: ``krelu-lp:k=2,solver=clarabel``.

Writes ``comparison.csv`` (a row an image and method) into ``--output`` and prints the table.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import kreludomain as kd
from kreludomain.run.config.methods import NamedMethod, named_method
from kreludomain.run.config.yaml_text import parse_yaml
from kreludomain.verify import predict


@dataclass(frozen=True)
class Benchmark:
    """A network of the collection, its test images and the radius it is asked about."""

    network: str
    data: str
    epsilon: float


BENCHMARKS = (
    Benchmark("mnist_6x100", "mnist_test_100.csv", 0.026),
    Benchmark("mnist_9x100", "mnist_test_100.csv", 0.026),
    Benchmark("mnist_6x200", "mnist_test_100.csv", 0.015),
    Benchmark("mnist_convsmall", "mnist_test_100.csv", 0.12),
    Benchmark("cifar_convsmall", "cifar10_test_100.csv", 2 / 255),
)


@dataclass(frozen=True)
class Row:
    """What one method says of one image."""

    network: str
    index: int
    method: str
    verdict: str
    margin: float
    seconds: float


def images(folder: Path, benchmark: Benchmark, network: kd.Network) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Index, label and input ``(1, *input_shape)`` of every image that the network classifies right."""
    table = np.loadtxt(folder / benchmark.data, delimiter=",")
    pixels = torch.from_numpy(table[:, 1:] / 255)
    if len(network.input.shape) == 3:
        channels, height, width = network.input.shape
        pixels = pixels.reshape(-1, height, width, channels).permute(0, 3, 1, 2)
    pixels = pixels.reshape(-1, *network.input.shape)
    for index, (label, x) in enumerate(zip(table[:, 0].astype(int).tolist(), pixels, strict=True)):
        if int(predict(network, x[None])[0]) == label:
            yield index, label, x[None]


def compare(folder: Path, benchmark: Benchmark, methods: list[str], count: int, timeout_s: float) -> Iterator[Row]:
    """Rows of the first ``count`` images, image by image, so that methods share whatever the machine does."""
    network = kd.load(folder / "nets" / f"{benchmark.network}.onnx")
    for index, label, x in images(folder, benchmark, network):
        if index >= count:
            return
        region, claim = kd.ball(x, benchmark.epsilon, clip=(0, 1)), kd.robustness(label, 10)
        for method in methods:
            made = parsed(method).method
            result = kd.certify(network, region, claim, made, timeout_s=timeout_s, attack=False, tight=True)
            margin = float(result.lower_bounds.min())
            yield Row(benchmark.network, index, method, str(result.verdict), margin, result.seconds)


def parsed(method: str) -> NamedMethod:
    """``name:key=value,...`` as a method."""
    name, _, rest = method.partition(":")
    options = dict(part.split("=", 1) for part in rest.split(",")) if rest else {}
    return named_method({"name": name, **{key: parse_yaml(value, key) for key, value in options.items()}}, method)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--methods", nargs="+", default=["interval", "zonotope", "deeppoly", "lp", "krelu-lp"])
    parser.add_argument("--networks", nargs="+", default=[b.network for b in BENCHMARKS])
    parser.add_argument("--count", type=int, default=10, help="the first so many images")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for one image and method")
    parser.add_argument("--output", type=Path, default=Path("runs/compare_single_neuron"))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    table = Table("network", "method", "images", "verified", "median margin", "median seconds")
    try:
        with (options.output / "comparison.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(Row.__dataclass_fields__)
            for benchmark in (b for b in BENCHMARKS if b.network in options.networks):
                rows = []
                for row in compare(options.folder, benchmark, options.methods, options.count, options.timeout):
                    rows.append(row)
                    writer.writerow(vars(row).values())
                    file.flush()
                for method in options.methods:
                    mine = [row for row in rows if row.method == method]
                    table.add_row(
                        benchmark.network,
                        method,
                        str(len(mine)),
                        str(sum(row.verdict == "verified" for row in mine)),
                        f"{statistics.median(row.margin for row in mine):.3f}",
                        f"{statistics.median(row.seconds for row in mine):.3f}",
                    )
    except kd.InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    Console().print(table)


if __name__ == "__main__":
    main()
