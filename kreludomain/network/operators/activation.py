"""Activations. A new one is a class here and an entry in the tables of :mod:`kreludomain.domain.relu`'s kind."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from kreludomain.network.operators.base import Activation


@dataclass(frozen=True, eq=False)
class Relu(Activation):
    """``y = max(x, 0)``."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        return inputs[0].clamp(min=0)
