"""Trains a ReLU network on one Euler step of the Brusselator and writes it as ONNX to ``configs/nets``.

Beside it goes the curve where the step itself folds, as points in ``configs/data``.

The step of length tau of ``x' = a + x^2 y - (b + 1) x``, ``y' = b x - x^2 y`` is a polynomial map of the plane. Where
its Jacobian's determinant is zero it folds the plane over: two points have the same image. A network that learned the
map folds too, along edges of its linear pieces, and ``kreludomain invert configs/invert_brusselator.yaml`` says how far
points are from there.

Points are uniform in the box; the network is small, so that a picture can show every one of its pieces. Seeds are fixed
and one thread is used, so the same machine and the same torch give the same weights.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from kreludomain.network import from_torch, load, to_onnx

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
A, B, TAU = 1.0, 2.0, 0.3
LOWER, UPPER = (0.25, 0.0), (3.5, 2.5)
#: The networks by their files' names: one whose pieces a picture can show, and a deep one, where bounds matter more.
WIDTHS = {"brusselator": (2, 16, 16, 2), "brusselator_deep": (2, 10, 10, 10, 10, 10, 2)}


def euler_step(points: Tensor) -> Tensor:
    """One Euler step of points ``(N, 2)``."""
    x, y = points.unbind(1)
    reaction = x * x * y
    return torch.stack([x + TAU * (A + reaction - (B + 1) * x), y + TAU * (B * x - reaction)], 1)


def fold(count: int = 400) -> Tensor:
    """Points ``(count, 2)`` where the step's Jacobian has determinant 0, which is linear in y, from left to right."""
    x = torch.linspace(0.25, 6.0, count, dtype=torch.float64)
    y = (TAU * x * x * (1 - TAU) - 1 + TAU * (B + 1)) / (2 * TAU * x)
    return torch.stack([x, y], 1)


def sample(count: int, generator: torch.Generator) -> Tensor:
    """Uniform points of the box, ``(count, 2)``."""
    lower, upper = torch.tensor(LOWER, dtype=torch.float64), torch.tensor(UPPER, dtype=torch.float64)
    return lower + (upper - lower) * torch.rand(count, 2, generator=generator, dtype=torch.float64)


def train(widths: tuple[int, ...], seed: int, steps: int) -> nn.Sequential:
    """The network after Adam on fresh points, then L-BFGS on a fixed set of them."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    hidden = [layer for n, m in pairwise(widths) for layer in (nn.Linear(n, m), nn.ReLU())]
    module = nn.Sequential(*hidden[:-1]).double()
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(steps):
        points = sample(512, generator)
        loss = (module(points) - euler_step(points)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    points = sample(8192, generator)
    target = euler_step(points)
    polish = torch.optim.LBFGS(module.parameters(), max_iter=1000, history_size=50, line_search_fn="strong_wolfe")

    def closure() -> float:
        polish.zero_grad()
        loss = (module(points) - target).square().mean()
        loss.backward()
        return float(loss.detach())

    polish.step(closure)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the Brusselator networks and write them as ONNX.")
    parser.add_argument("--output", type=Path, default=CONFIGS, help="folder of nets/ and data/ (default: configs)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=8000, help="steps of Adam")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    nets, data = options.output / "nets", options.output / "data"
    nets.mkdir(parents=True, exist_ok=True)
    data.mkdir(parents=True, exist_ok=True)
    curve = "".join(f"{x:.5f},{y:.5f}\n" for x, y in fold().tolist())
    (data / "brusselator_fold.csv").write_text(curve, encoding="utf-8")
    points = sample(20000, torch.Generator().manual_seed(options.seed + 1))
    table = Table("network", "widths", "mean error", "largest error", "seconds")
    for name, widths in WIDTHS.items():
        start = time.perf_counter()
        module = train(widths, options.seed, options.steps)
        path = nets / f"{name}.onnx"
        path.write_bytes(to_onnx(from_torch(module.float(), (2,))))
        error = (load(path)(points) - euler_step(points)).abs()
        seconds = f"{time.perf_counter() - start:.0f}"
        table.add_row(
            name, "-".join(map(str, widths)), f"{float(error.mean()):.4f}", f"{float(error.max()):.3f}", seconds
        )
    Console().print(table)


if __name__ == "__main__":
    main()
