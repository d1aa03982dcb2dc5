"""Trains ``configs/nets/arm.onnx``: where the hand of an arm with two joints is.

Both parts of the arm have length 1. The inputs are the angles of shoulder and elbow in radians, 0 to pi each; the
outputs are the hand's position, ``(cos a + cos(a + b), sin a + sin(a + b))``. Three layers of 16 ReLUs learn it from
random angles by least squares with weight decay. Seeds are fixed and one thread is used, so the same machine and the
same torch give the same weights.
"""

from __future__ import annotations

import argparse
import math
from itertools import pairwise
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional

from kreludomain.network import from_torch, load, to_onnx

NETS = Path(__file__).resolve().parent.parent / "configs" / "nets"
WIDTHS = (2, 16, 16, 16, 2)


def hand(angles: Tensor) -> Tensor:
    """The hand's position ``(N, 2)`` for angles ``(N, 2)`` of shoulder and elbow."""
    first, second = angles[:, 0], angles.sum(1)
    return torch.stack([first.cos() + second.cos(), first.sin() + second.sin()], dim=1)


def train(seed: int, steps: int = 6000, batch: int = 512) -> nn.Module:
    """The network after ``steps`` steps of AdamW."""
    torch.manual_seed(seed)
    layers = [layer for n, m in pairwise(WIDTHS) for layer in (nn.Linear(n, m, dtype=torch.float64), nn.ReLU())]
    module = nn.Sequential(*layers[:-1])
    optimizer = torch.optim.AdamW(module.parameters(), lr=5e-3, weight_decay=3e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        angles = math.pi * torch.rand(batch, 2, dtype=torch.float64)
        loss = functional.mse_loss(module(angles), hand(angles))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return module.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the arm's network and write it as ONNX.")
    parser.add_argument("--output", type=Path, default=NETS, help="folder of the ONNX file (default: configs/nets)")
    parser.add_argument("--seed", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    given.output.mkdir(parents=True, exist_ok=True)
    path = given.output / "arm.onnx"
    path.write_bytes(to_onnx(from_torch(train(given.seed), WIDTHS[:1])))
    angles = math.pi * torch.rand(20_000, 2, dtype=torch.float64)
    away = (load(path)(angles) - hand(angles)).norm(dim=1)
    Console().print(f"{path.name}: off by {float(away.mean()):.3f} on average, {float(away.max()):.3f} at most")


if __name__ == "__main__":
    main()
