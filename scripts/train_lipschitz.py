"""Trains the networks of the Lipschitz study and writes its configuration.

One base network (three hidden layers of 32 neurons, torch's own initialisation) and its neighbours along three axes:
width, depth and initialisation, all trained alike on the digits that ship with scikit-learn (Adam, cross-entropy, no
weight decay, no attacks: whatever their Lipschitz constants become, nothing asked for it). Then

    kreludomain lipschitz configs/lipschitz_study.yaml

measures them. With ``--seeds 3`` each network is there three times, and the plot has medians and ranges:

    python scripts/train_lipschitz.py --seeds 3 --nets runs/study/nets --configuration runs/study/study.yaml
    kreludomain lipschitz runs/study/study.yaml
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from kreludomain.analysis.lipschitz import product
from kreludomain.network import from_torch, load, to_onnx

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
TRAIN = 1437

HEADER = """\
# How width, depth and initialisation move the estimate, the true slopes and the robustness of networks trained on the
# digits. Written by scripts/train_lipschitz.py, which trains the networks too.
#
#     kreludomain lipschitz {name}
"""

#: What the study asks of each network.
QUESTION: dict[str, Any] = {
    "data": {"name": "digits", "count": 10},
    "region": {"norm": 2, "epsilon": 0.05, "clip": [0, 1]},
    "lipsdp": {"timeout_s": 60},
    "samples": 200,
    "radius": {"largest": 4, "tolerance": 0.02, "methods": ["deeppoly"]},
    "timeout_s": 30,
}


@dataclass(frozen=True)
class Design:
    """``depth`` hidden layers of ``width`` neurons."""

    width: int = 32
    depth: int = 3
    initialisation: str = "torch"

    @property
    def name(self) -> str:
        return f"digits_{self.width}x{self.depth}_{self.initialisation}"


BASE = Design()
AXES: dict[str, tuple[Any, ...]] = {
    "width": (8, 16, 32, 64),
    "depth": (1, 3, 5, 7),
    "initialisation": ("torch", "xavier", "he"),
}


#: How weights are drawn where it is not torch's own way.
DRAWS: dict[str, Callable[[Tensor], Tensor]] = {"he": nn.init.kaiming_normal_, "xavier": nn.init.xavier_uniform_}


def designs() -> dict[Design, dict[str, Any]]:
    """Every network of the study with the axes it stands on."""
    found: dict[Design, dict[str, Any]] = {}
    for axis, values in AXES.items():
        for value in values:
            found.setdefault(replace(BASE, **{axis: value}), {})[axis] = value
    return found


def build(design: Design) -> nn.Sequential:
    widths = [64, *[design.width] * design.depth]
    hidden = [layer for n, m in pairwise(widths) for layer in (nn.Linear(n, m), nn.ReLU())]
    module = nn.Sequential(*hidden, nn.Linear(design.width, 10))
    for layer in module:
        if isinstance(layer, nn.Linear) and design.initialisation != "torch":
            DRAWS[design.initialisation](layer.weight)
            nn.init.zeros_(layer.bias)
    return module


def train(module: nn.Sequential, x: Tensor, labels: Tensor, epochs: int) -> None:
    optimizer = torch.optim.Adam(module.parameters(), lr=2e-3)
    for _ in range(epochs):
        for chosen in torch.randperm(len(x)).split(64):
            loss = functional.cross_entropy(module(x[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", type=Path, default=CONFIGS / "nets" / "lipschitz", help="folder of the ONNX files")
    parser.add_argument("--configuration", type=Path, default=CONFIGS / "lipschitz_study.yaml", help="YAML to write")
    parser.add_argument("--seeds", type=int, default=1, help="networks of each design")
    parser.add_argument("--epochs", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for folder in (options.nets, options.configuration.parent):
        folder.mkdir(parents=True, exist_ok=True)
    images, targets = load_digits(return_X_y=True)
    x, labels = torch.tensor(images / 16.0, dtype=torch.float32), torch.tensor(targets)
    table = Table("network", "parameters", "product untrained", "product trained", "test accuracy", "seconds")
    networks = []
    for design, axes in designs().items():
        for seed in range(options.seeds):
            start = time.perf_counter()
            torch.manual_seed(seed)
            module = build(design)
            before = product(from_torch(module, (64,))).upper
            train(module, x[:TRAIN], labels[:TRAIN], options.epochs)
            label = design.name + (f"_seed{seed}" if options.seeds > 1 else "")
            path = options.nets / f"{label}.onnx"
            path.write_bytes(to_onnx(from_torch(module, (64,))))
            network = load(path)
            right = network(x[TRAIN:].double()).argmax(1) == labels[TRAIN:]
            table.add_row(
                label,
                str(sum(p.numel() for p in module.parameters())),
                f"{before:.4g}",
                f"{product(network).upper:.4g}",
                f"{100 * float(right.double().mean()):.1f} %",
                f"{time.perf_counter() - start:.0f}",
            )
            file = os.path.relpath(path, options.configuration.parent)
            networks.append({"file": file, "initialisation": asdict(design)["initialisation"], "axes": axes})
    name = os.path.relpath(options.configuration)
    study = yaml.safe_dump(
        {
            "networks": networks,
            **QUESTION,
            "output": os.path.relpath(CONFIGS.parent / "runs" / "lipschitz_study", options.configuration.parent),
        },
        sort_keys=False,
        default_flow_style=None,
        width=120,
    )
    options.configuration.write_text(HEADER.format(name=name) + study, encoding="utf-8")
    Console().print(table)


if __name__ == "__main__":
    main()
