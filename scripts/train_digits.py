"""Trains the small networks of ``configs/nets`` on the digits that ship with scikit-learn and writes them as ONNX.

1,797 images of 8x8 pixels, values 0..16 divided by 16; in their order, the first 1,437 train and the last 360 test.
A quarter of the images of every batch is shifted by one pixel. Every step minimises the cross-entropy of images that
projected gradient ascent has then moved within an l_inf ball (whose radius grows from zero over the first half of the
epochs), with weight decay. That makes the networks hard to attack without making them easy to prove: nothing in the
training asks for tight relaxations.

Seeds are fixed and one thread is used, so the same machine and the same torch give the same weights.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from kreludomain.network import from_torch, load, to_onnx
from kreludomain.network.operators import Shape

TRAIN = 1437
NETS = Path(__file__).resolve().parent.parent / "configs" / "nets"


@dataclass(frozen=True)
class Recipe:
    """An architecture and how it is trained; ``epsilon`` is the radius of the training attack."""

    build: Callable[[], nn.Module]
    input_shape: Shape
    epsilon: float
    epochs: int = 60
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    seed: int = 0


def dense() -> nn.Module:
    """64 -> five layers of 40 -> 10."""
    widths = [64, 40, 40, 40, 40, 40]
    hidden = [layer for n, m in pairwise(widths) for layer in (nn.Linear(n, m), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(40, 10))


def convolutional() -> nn.Module:
    """Three 3x3 convolutions (6, 8 and 10 channels; no padding, so 8x8 shrinks to 2x2) and a dense layer of 40."""
    channels = [1, 6, 8, 10]
    hidden = [layer for n, m in pairwise(channels) for layer in (nn.Conv2d(n, m, 3), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Flatten(), nn.Linear(10 * 2 * 2, 40), nn.ReLU(), nn.Linear(40, 10))


class Residual(nn.Module):
    """A strided convolution, one residual block of two convolutions, an average pool, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.block = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
        )
        self.head = nn.Sequential(nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8 * 2 * 2, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        result: Tensor = self.head(x + self.block(x))
        return result


RECIPES = {
    "digits_dense": Recipe(dense, (64,), epsilon=0.05, epochs=100),
    "digits_conv": Recipe(convolutional, (1, 8, 8), epsilon=0.05),
    "digits_residual": Recipe(Residual, (1, 8, 8), epsilon=0.1),
}


def digits() -> tuple[Tensor, Tensor]:
    """Images ``(1797, 64)`` in [0, 1] and their labels, in the order they ship in."""
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 16.0, dtype=torch.float32), torch.tensor(labels)


def attacked(module: nn.Module, x: Tensor, labels: Tensor, epsilon: float, steps: int = 5) -> Tensor:
    """Points near ``x`` (l_inf, within [0, 1]) of larger loss: projected gradient ascent from a random start."""
    lower, upper = (x - epsilon).clamp(min=0), (x + epsilon).clamp(max=1)
    point = lower + torch.rand_like(x) * (upper - lower)
    for _ in range(steps):
        point.requires_grad_()
        (gradient,) = torch.autograd.grad(functional.cross_entropy(module(point), labels), point)
        point = (point.detach() + epsilon / 2 * gradient.sign()).clamp(lower, upper)
    return point


def shifted(x: Tensor, share: float = 0.25) -> Tensor:
    """A ``share`` of the images moved by one pixel, left or right or up or down, with zeros behind them."""
    padded = functional.pad(x.reshape(-1, 8, 8), (1, 1, 1, 1))
    places = torch.tensor([[1, 1], [0, 1], [2, 1], [1, 0], [1, 2]])  # first row and column of the window kept
    chosen = torch.where(torch.rand(len(x)) < share, torch.randint(1, 5, (len(x),)), 0)
    rows, columns = (places[chosen][:, axis, None] + torch.arange(8) for axis in (0, 1))
    return padded[torch.arange(len(x))[:, None, None], rows[:, :, None], columns[:, None, :]].reshape(x.shape)


def train(recipe: Recipe, x: Tensor, labels: Tensor) -> nn.Module:
    """The recipe's network, trained on images ``x`` and ``labels``."""
    torch.manual_seed(recipe.seed)
    module = recipe.build()
    optimizer = torch.optim.AdamW(module.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    batches = -(-len(x) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, epochs=recipe.epochs, steps_per_epoch=batches
    )
    for epoch in range(recipe.epochs):
        epsilon = recipe.epsilon * min(1.0, 2 * epoch / recipe.epochs)
        for chosen in torch.randperm(len(x)).split(64):
            moved = attacked(module.eval(), shifted(x[chosen]), labels[chosen], epsilon)
            loss = functional.cross_entropy(module.train()(moved), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return module.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the digits networks and write them as ONNX.")
    parser.add_argument("--output", type=Path, default=NETS, help="folder of the ONNX files (default: configs/nets)")
    output: Path = parser.parse_args().output
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    output.mkdir(parents=True, exist_ok=True)
    images, labels = digits()
    table = Table("network", "parameters", "ReLUs", "test accuracy", "seconds")
    for name, recipe in RECIPES.items():
        start = time.perf_counter()
        x = images.reshape(-1, *recipe.input_shape)
        module = train(recipe, x[:TRAIN], labels[:TRAIN])
        (output / f"{name}.onnx").write_bytes(to_onnx(from_torch(module, recipe.input_shape)))
        network = load(output / f"{name}.onnx")
        correct = network(x[TRAIN:].to(network.dtype)).argmax(1) == labels[TRAIN:]
        table.add_row(
            name,
            str(sum(p.numel() for p in module.parameters())),
            str(sum(network.size(node.name) for node in network.activations)),
            f"{100 * float(correct.double().mean()):.1f} %",
            f"{time.perf_counter() - start:.0f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
