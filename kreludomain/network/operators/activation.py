"""Activations. A new one is a class here and an entry in the tables of :mod:`kreludomain.domain.relaxation`'s kind."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.network.operators.base import Activation


@dataclass(frozen=True, eq=False)
class Relu(Activation):
    """``y = max(x, 0)``."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        return inputs[0].clamp(min=0)


@dataclass(frozen=True, eq=False)
class SShaped(Activation):
    """A function that grows from one limit to another, convex below zero and concave above: a scaled tanh.

    ``y = offset + height * tanh(rate * x)``, which is all that relaxations need to know of it.
    """

    @property
    @abstractmethod
    def form(self) -> tuple[float, float, float]:
        """``(offset, height, rate)``, the last two positive."""


@dataclass(frozen=True, eq=False)
class Sigmoid(SShaped):
    """``y = 1 / (1 + exp(-x))``, which is ``1/2 + tanh(x / 2) / 2``."""

    @property
    def form(self) -> tuple[float, float, float]:
        return 0.5, 0.5, 0.5

    def __call__(self, *inputs: Tensor) -> Tensor:
        return torch.sigmoid(inputs[0])


@dataclass(frozen=True, eq=False)
class Tanh(SShaped):
    """``y = tanh(x)``."""

    @property
    def form(self) -> tuple[float, float, float]:
        return 0.0, 1.0, 1.0

    def __call__(self, *inputs: Tensor) -> Tensor:
        return torch.tanh(inputs[0])
