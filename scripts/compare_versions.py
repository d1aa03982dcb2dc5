"""Two checkouts of kreludomain on the same questions: verdicts, margins, and seconds in pairs.

    python scripts/compare_versions.py OLD NEW BENCHMARKS [--images 10] [--skip answers] [--rounds 7]

OLD and NEW are checkouts, BENCHMARKS a folder with ``eran/`` (as in ``compare_single_neuron.py``) and ``vnncomp2021/``.
Each checkout answers in processes of its own, with one thread:

- the quick start: twenty digits, seven methods;
- the first images of each benchmark network: DeepPoly, and k-ReLU by the dual (preset fast, with twenty steps for inner
  bounds and a pass under output constraints, so that every stage runs);
- the ACAS Xu instances, by the complete method.

Prints every question whose verdicts differ, or whose margins differ by more than 1e-9 relatively, and the counts. Then
DeepPoly and the steps of the dual are timed, old and new in turn, and medians and the ratio are printed; seconds are of
the processor, which other work on the machine changes less. The exit code
is 1 if a verdict or a margin differs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

#: Network, images, radius.
NETWORKS = (
    ("mnist_6x100", "mnist_test_100.csv", 0.026),
    ("mnist_9x100", "mnist_test_100.csv", 0.026),
    ("mnist_6x200", "mnist_test_100.csv", 0.015),
    ("mnist_convsmall", "mnist_test_100.csv", 0.12),
    ("cifar_convsmall", "cifar10_test_100.csv", 2 / 255),
)
QUICK: tuple[tuple[str, dict[str, Any]], ...] = (
    ("interval", {}),
    ("zonotope", {}),
    ("deeppoly", {}),
    ("lp", {"refine": "all"}),
    ("krelu-lp", {"k": 2}),
    ("krelu-lp", {"k": 3}),
    ("krelu", {}),
)
BENCHMARK: dict[str, dict[str, Any]] = {
    "deeppoly": {"neurons": "unstable"},
    "krelu": {"preset": "fast", "refine": "all", "inner_steps": 20, "steps": 40, "_passes": 1},
}
#: Name, network, method with its options: what is timed, without loading.
TIMED: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("DeepPoly, 6x200", "mnist_6x200", "deeppoly", {"neurons": "unstable"}),
    ("DeepPoly, MNIST ConvSmall", "mnist_convsmall", "deeppoly", {"neurons": "unstable"}),
    ("300 steps of the dual, 6x100", "mnist_6x100", "krelu", {"preset": "fast", "steps": 300}),
    ("100 steps of the dual, MNIST ConvSmall", "mnist_convsmall", "krelu", {"preset": "fast", "steps": 100}),
)

#: Run by each checkout's own process: a question a line of JSON on stdin, an answer a line on stdout. It uses only what
#: all versions have.
ANSWER = r"""
import dataclasses, json, sys, time
import numpy, torch
torch.set_num_threads(1)
import kreludomain as kd

def option(method, name):
    # an option that was renamed: `_passes` is `passes` or, before that, `sweeps`
    if not name.startswith("_"):
        return name
    fields = {field.name for field in dataclasses.fields(kd.METHODS[method])}
    return next(word for word in (name[1:], {"_passes": "sweeps"}[name]) if word in fields)

networks = {}
def loaded(path):
    if path not in networks:
        networks[path] = kd.load(path)
    return networks[path]

for line in sys.stdin:
    q = json.loads(line)
    network, method = loaded(q["network"]), q["method"]
    if q["specification"]:
        found = kd.decide(network, kd.load_vnnlib(q["specification"], network), method, timeout_s=q["timeout_s"])
        answer = {"verdict": str(found.verdict), "margins": []}
    else:
        x = torch.tensor(q["x"], dtype=torch.float64).reshape(network.input.shape)
        region = kd.ball(x, q["epsilon"], clip=(0, 1))
        claim = kd.robustness(q["label"], network.size(network.output.name))
        options = {option(method, name): value for name, value in q["options"].items()}
        start = time.process_time()
        found = kd.certify(network, region, claim, method, attack=False, tight=q["tight"], **options)
        seconds = time.process_time() - start
        answer = {"verdict": str(found.verdict), "margins": found.lower_bounds.tolist(), "seconds": seconds}
    print(json.dumps(answer), flush=True)
"""


@dataclass(frozen=True)
class Question:
    """One call of ``certify`` (a ball around ``x``), or of ``decide`` where there is a ``specification``."""

    name: str
    network: str
    method: str
    options: dict[str, Any]
    x: list[float] | None = None
    label: int = 0
    epsilon: float = 0.0
    tight: bool = False
    specification: str = ""
    timeout_s: float | None = None


class Checkout:
    """A process that answers questions with the package of one checkout."""

    def __init__(self, folder: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(folder.resolve()), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", ANSWER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=folder,
        )

    def answer(self, question: Question) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(question)) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        self._process.kill()


def digits(first: int, count: int) -> Iterable[tuple[int, int, list[float]]]:
    """Position, label and pixels of scikit-learn's digits; the test images begin at 1437."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    for position in range(1437 + first, 1437 + first + count):
        yield position - 1437, int(labels[position]), (images[position] / 16).tolist()


def pictures(path: Path, count: int) -> Iterable[tuple[int, int, list[float]]]:
    """Position, label and pixels of the first images of a CSV file; colour images are stored channels last."""
    with path.open(encoding="utf-8") as file:
        for position, line in zip(range(count), file, strict=False):
            label, *values = (float(value) for value in line.split(","))
            pixels = [value / 255 for value in values]
            if len(pixels) == 3 * 32 * 32:
                pixels = [pixels[3 * place + channel] for channel in range(3) for place in range(32 * 32)]
            yield position, int(label), pixels


def questions(new: Path, benchmarks: Path, images: int) -> Iterable[Question]:
    """Everything that is asked, in order."""
    network = str((new / "configs" / "nets" / "digits_dense.onnx").resolve())
    for index, label, x in digits(0, 20):
        for method, options in QUICK:
            yield Question(f"quick start {index}, {method} {options}", network, method, options, x, label, 0.05)
    for name, data, epsilon in NETWORKS:
        path = str((benchmarks / "eran" / "nets" / f"{name}.onnx").resolve())
        for index, label, x in pictures(benchmarks / "eran" / data, images):
            for method, options in BENCHMARK.items():
                yield Question(f"{name} {index}, {method}", path, method, options, x, label, epsilon)
    folder = (benchmarks / "vnncomp2021").resolve()
    for line in (folder / "instances.csv").read_text(encoding="utf-8").splitlines()[1:]:
        family, onnx, vnnlib, timeout_s, *_ = line.split(",")
        if family == "acasxu":
            name, network, seconds = f"{onnx} {vnnlib}", str(folder / onnx), float(timeout_s)
            yield Question(name, network, "complete", {}, specification=str(folder / vnnlib), timeout_s=seconds)


def differs(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether two answers are not the same: the verdict, or a margin by more than 1e-9 relatively."""
    if old["verdict"] != new["verdict"] or len(old["margins"]) != len(new["margins"]):
        return True
    pairs = zip(old["margins"], new["margins"], strict=True)
    return any(a != b and not abs(a - b) <= 1e-9 * (1 + abs(a)) for a, b in pairs)


def compare_answers(old: Checkout, new: Checkout, asked: Iterable[Question]) -> int:
    """Asks both; prints what differs and the counts; returns how many answers differ."""
    counts: dict[str, int] = {}
    different = identical = total = 0
    for question in asked:
        then, now = old.answer(question), new.answer(question)
        total += 1
        identical += then["verdict"] == now["verdict"] and then["margins"] == now["margins"]
        counts[now["verdict"]] = counts.get(now["verdict"], 0) + 1
        if differs(then, now):
            different += 1
            print(f"{question.name}: {then['verdict']} {then['margins']}, now {now['verdict']} {now['margins']}")
    kinds = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    print(f"{total} questions ({kinds}): {different} answers differ, {identical} are the same to the last bit")
    return different


def compare_seconds(old: Checkout, new: Checkout, benchmarks: Path, rounds: int) -> None:
    """Medians of old and new in turn, and the median of the ratios of pairs."""
    data = {name: (csv, epsilon) for name, csv, epsilon in NETWORKS}
    for text, name, method, options in TIMED:
        csv, epsilon = data[name]
        *_, (_, label, x) = pictures(benchmarks / "eran" / csv, 4)
        path = str((benchmarks / "eran" / "nets" / f"{name}.onnx").resolve())
        question = Question(text, path, method, options, x, label, epsilon, tight=True)
        for checkout in (old, new):
            checkout.answer(question)  # loads, and warms up
        pairs = [(old.answer(question)["seconds"], new.answer(question)["seconds"]) for _ in range(rounds)]
        then, now = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(b / a for a, b in pairs)
        print(f"{text}: {then:.4f} s, now {now:.4f} s; median ratio {ratio:.3f} of {rounds} pairs", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("benchmarks", type=Path)
    parser.add_argument("--images", type=int, default=10, help="of each benchmark network")
    parser.add_argument("--rounds", type=int, default=15, help="pairs that are timed")
    parser.add_argument("--skip", choices=("answers", "seconds"))
    options = parser.parse_args()
    old, new = Checkout(options.old), Checkout(options.new)
    different = 0
    try:
        if options.skip != "answers":
            different = compare_answers(old, new, questions(options.new, options.benchmarks, options.images))
        if options.skip != "seconds":
            compare_seconds(old, new, options.benchmarks, options.rounds)
    finally:
        old.close()
        new.close()
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
