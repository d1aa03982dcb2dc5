"""One thread, the networks of the repository, and images of handwritten digits that scikit-learn has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits

import kreludomain as kd

NETS = Path(__file__).resolve().parents[1] / "configs" / "nets"
#: The first image that no network was trained on.
FIRST = 1437

torch.set_num_threads(1)


class Digits:
    """A network of digits and questions about it."""

    def __init__(self, name: str) -> None:
        self.network = kd.load(NETS / f"{name}.onnx")
        self.images, self.labels = load_digits(return_X_y=True)

    def region(self, image: int, epsilon: float) -> kd.Region:
        """The images within ``epsilon`` of a test image, pixel by pixel."""
        x = torch.tensor(self.images[FIRST + image] / 16).reshape(1, *self.network.input.shape)
        return kd.ball(x, epsilon, clip=(0, 1))

    def claim(self, image: int) -> kd.Claim:
        """The image's label scores highest."""
        return kd.robustness(int(self.labels[FIRST + image]), classes=10)


@pytest.fixture(scope="session")
def dense() -> Digits:
    return Digits("digits_dense")


@pytest.fixture(scope="session")
def conv() -> Digits:
    return Digits("digits_conv")


@pytest.fixture(scope="session")
def residual() -> Digits:
    return Digits("digits_residual")
