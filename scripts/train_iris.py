"""Trains the network of configs/table.yaml, and writes the flowers that it has not seen as a table.

    python scripts/train_iris.py configs

From four lengths in cm it tells which of three species a flower is (scikit-learn's iris data); the standardisation of
the lengths is part of the network, so that a region is in cm.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import torch
from sklearn.datasets import load_iris
from torch import Tensor, nn

import kreludomain as kd


class Iris(nn.Module):
    """Scores of three species from lengths and widths in cm."""

    mean: Tensor
    std: Tensor

    def __init__(self, lengths: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", lengths.mean(0))
        self.register_buffer("std", lengths.std(0))
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.layers((x - self.mean) / self.std)
        return scores


def main(folder: Path) -> None:
    torch.manual_seed(0)
    data = load_iris()
    x, y = torch.tensor(data.data, dtype=torch.float32), torch.tensor(data.target)
    order = torch.randperm(len(x))
    test, train = order[:30], order[30:]
    model = Iris(x[train])
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=1e-3)
    for _ in range(300):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x[train]), y[train]).backward()
        optimiser.step()
    print((model(x[test]).argmax(1) == y[test]).sum().item(), "of", len(test), "right")
    (folder / "nets" / "iris.onnx").write_bytes(kd.to_onnx(kd.from_torch(model.eval(), (4,))))
    with (folder / "data" / "iris.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["sepal_length", "sepal_width", "petal_length", "petal_width", "species"])
        for row, label in zip(x[test].tolist(), y[test].tolist(), strict=True):
            writer.writerow([*(round(value, 1) for value in row), data.target_names[label]])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
