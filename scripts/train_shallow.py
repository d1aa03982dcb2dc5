"""Trains ``configs/nets/digits_shallow.onnx``: 64 -> 64 ReLU -> 10, as ``train_digits.py`` trains its own.

One ReLU layer only: the network whose moments under Gaussian noise are exact.
"""

from __future__ import annotations

import torch
from rich.console import Console
from torch import nn
from train_digits import NETS, TRAIN, Recipe, digits, train

from kreludomain.network import from_torch, to_onnx

RECIPE = Recipe(lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), (64,), epsilon=0.05)


def main() -> None:
    torch.set_num_threads(1)
    images, labels = digits()
    module = train(RECIPE, images[:TRAIN], labels[:TRAIN])
    path = NETS / "digits_shallow.onnx"
    path.write_bytes(to_onnx(from_torch(module, RECIPE.input_shape)))
    right = (module(images[TRAIN:]).argmax(1) == labels[TRAIN:]).float().mean()
    Console().print(f"{path.name}: {100 * float(right):.1f} % of the test images")


if __name__ == "__main__":
    main()
