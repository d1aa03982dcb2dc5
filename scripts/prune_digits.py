"""Trains a small digits network and writes it, and pruned versions of it, as ONNX to ``configs/nets``.

The network (64 -> 16 -> 16 -> 10) is trained like those of ``train_digits.py``. A pruned version has the given share of
the weights of each layer set to zero, those of smallest magnitude; nothing is trained again, so it is as close to the
original as the share allows. ``kreludomain invert configs/invert_digits.yaml`` says how far around an image the pruned
network's output is a function of the original's.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from train_digits import NETS, TRAIN, Recipe, digits, train

from kreludomain.network import from_torch, load, to_onnx

SHARES = (20, 40, 60)


def small() -> nn.Module:
    """64 -> 16 -> 16 -> 10."""
    return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 10))


def pruned(module: nn.Module, percent: int) -> nn.Module:
    """A copy whose smallest weights, ``percent`` of each layer, are zero."""
    module = copy.deepcopy(module)
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            magnitudes = layer.weight.data.abs().flatten()
            limit = magnitudes.kthvalue(max(1, round(len(magnitudes) * percent / 100))).values
            layer.weight.data[layer.weight.data.abs() <= limit] = 0.0
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description="Train and prune a small digits network and write ONNX files.")
    parser.add_argument("--output", type=Path, default=NETS, help="folder of the ONNX files (default: configs/nets)")
    output: Path = parser.parse_args().output
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    output.mkdir(parents=True, exist_ok=True)
    images, labels = digits()
    module = train(Recipe(small, (64,), epsilon=0.05), images[:TRAIN].reshape(-1, 64), labels[:TRAIN])
    versions = {"digits_small": module} | {f"digits_small_pruned{p}": pruned(module, p) for p in SHARES}
    table = Table("network", "weights that are not zero", "test accuracy")
    for name, version in versions.items():
        path = output / f"{name}.onnx"
        path.write_bytes(to_onnx(from_torch(version, (64,))))
        network = load(path)
        right = network(images[TRAIN:].reshape(-1, 64).to(network.dtype)).argmax(1) == labels[TRAIN:]
        weights = sum(int((p != 0).sum()) for p in version.parameters() if p.dim() == 2)
        table.add_row(name, str(weights), f"{100 * float(right.double().mean()):.1f} %")
    Console().print(table)


if __name__ == "__main__":
    main()
