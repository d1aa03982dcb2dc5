"""What the attack finds: on images of the ERAN collection, and on instances of the verifier competition.

    python scripts/bench_attack.py FOLDER --benchmarks acasxu mnistfc mnist_6x100 --output attack.csv

FOLDER has ``eran/`` as ``compare_single_neuron.py`` wants it and ``vnncomp2021/`` with ``instances.csv`` (columns
``benchmark``, ``onnx``, ``vnnlib``, ``expected``), whose instances are taken that are expected to be violated, and can
be loaded. A row an image or instance: whether a counterexample was found, and seconds of processor time of one thread,
without loading; ``--timeout`` is in seconds of the clock. Prints a line a benchmark.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import torch
from compare_single_neuron import BENCHMARKS, images

import kreludomain as kd
from kreludomain.attack import PGDAttack
from kreludomain.network import Runtime


@dataclass(frozen=True)
class Question:
    """A specification, and the session on which counterexamples are replayed."""

    network: str
    name: str
    specification: kd.Specification
    runtime: Runtime


@dataclass(frozen=True)
class Row:
    """What came of a question."""

    benchmark: str
    network: str
    name: str
    found: bool
    seconds: float


def competition(folder: Path, benchmark: str) -> Iterator[Question]:
    """The instances of a benchmark that are expected to be violated; networks that cannot be read are left out."""
    networks: dict[str, kd.Network] = {}
    with (folder / "instances.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if (row["benchmark"], row["expected"]) == (benchmark, "violated")]
    for row in rows:
        try:
            network = networks.setdefault(row["onnx"], kd.load(folder / row["onnx"]))
        except kd.InputError as error:
            print(f"left out: {error}")
            continue
        path = folder / row["vnnlib"]
        path = path if path.exists() else path.with_name(f"{path.name}.gz")
        specification = kd.load_vnnlib(path, network)
        yield Question(Path(row["onnx"]).stem, path.name, specification, Runtime(specification.network))


def collection(folder: Path, name: str) -> Iterator[Question]:
    """The images of a network of the ERAN collection that it classifies right."""
    benchmark = next(b for b in BENCHMARKS if b.network == name)
    network = kd.load(folder / "nets" / f"{name}.onnx")
    runtime = Runtime(network)
    for index, label, x in images(folder, benchmark, network):
        region = kd.ball(x, benchmark.epsilon, clip=(0, 1)).fit(network)
        yield Question(
            name, str(index), kd.Specification(network, (kd.Property(region, kd.robustness(label, 10)),)), runtime
        )


def attacked(benchmark: str, question: Question, rounds: int, seed: int, timeout_s: float) -> Row:
    """One question: its cases one after the other."""
    start, deadline = time.process_time(), kd.Deadline.after(timeout_s)
    found = None
    for case in question.specification.properties:
        network = question.specification.network.to(dtype=torch.float64)
        query = kd.Query(network, case.region, case.claim, deadline=deadline)
        found = PGDAttack(rounds=rounds, seed=seed).search(query, question.runtime)
        if found is not None:
            break
    seconds = time.process_time() - start
    return Row(benchmark, question.network, question.name, found is not None, round(seconds, 4))


def main() -> None:
    eran = [b.network for b in BENCHMARKS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--benchmarks", nargs="*", default=["acasxu", "mnistfc", "oval21", "verivital", *eran])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=60.0)
    parser.add_argument("--output", type=Path, default=Path("attack.csv"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with options.output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(Row))
        for benchmark in options.benchmarks:
            source = collection if benchmark in eran else competition
            rows = []
            for question in source(options.folder / ("eran" if benchmark in eran else "vnncomp2021"), benchmark):
                rows.append(attacked(benchmark, question, options.rounds, options.seed, options.timeout))
                writer.writerow(astuple(rows[-1]))
                file.flush()
            print(summary(benchmark, rows), flush=True)


def summary(benchmark: str, rows: list[Row]) -> str:
    """How many were found, seconds of those and of the others, and the one that took longest."""
    hits, misses = [row for row in rows if row.found], [row.seconds for row in rows if not row.found]
    text = f"{benchmark}: found {len(hits)} of {len(rows)}"
    if hits:
        hardest = max(hits, key=lambda row: row.seconds)
        text += f", median {statistics.median(row.seconds for row in hits):.3f} s"
        text += f", hardest {hardest.network} {hardest.name} {hardest.seconds:.2f} s"
    return text + (f"; not found: median {statistics.median(misses):.2f} s" if misses else "")


if __name__ == "__main__":
    main()
