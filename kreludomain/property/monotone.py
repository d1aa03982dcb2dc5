"""The claim that a network is monotone in some of its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.property.factories import which_output

Direction = Literal["increasing", "decreasing"]


@dataclass(frozen=True, eq=False)
class Monotonicity:
    """``row . f`` does not fall where one of the ``features`` grows and all other entries of the input stay.

    That is to hold for any two inputs of a region that differ in one feature alone. ``features`` are flat positions in
    the input, ``row`` ``(outputs,)`` the expression in the outputs, negated where it is to decrease. ``tolerance``: how
    far below zero its slope may be, in units of the output for one of the input.

    A network of ReLUs changes along a segment by the average of its slopes there, so bounds of all slopes over the
    region that are not negative prove the claim (Shi et al., NeurIPS 2022, bound them likewise).
    """

    features: tuple[int, ...]
    row: Tensor
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if not self.features:
            raise InputError("monotone: no feature is given")
        if not self.tolerance >= 0:
            raise InputError(f"monotone: tolerance {self.tolerance} is not a number from 0 up")

    def require_fit(self, network: Network) -> None:
        """Raises :class:`InputError` for an input or a number of outputs that the network does not have, and for
        activations that are not ReLUs."""
        inputs, outputs = network.size(network.input.name), network.size(network.output.name)
        for feature in self.features:
            if not 0 <= feature < inputs:
                raise InputError(f"monotone: feature {feature} is not one of the {inputs} inputs, 0 to {inputs - 1}")
        if self.row.shape != (outputs,):
            raise InputError(f"monotone: a row of {len(self.row)} numbers, the network has {outputs} outputs")

    def proved(self, lower: Tensor) -> Tensor:
        """For which features sound lower bounds ``(m,)`` of the slopes prove the claim."""
        return (lower >= -self.tolerance) & lower.isfinite()

    def margin(self, lower: Tensor) -> float:
        """The least of the slopes' lower bounds ``(m,)``."""
        return float(lower.min())


def monotone(
    feature: int | Sequence[int],
    direction: Direction = "increasing",
    output: int | None = None,
    minus: int | None = None,
    outputs: int = 1,
    tolerance: float = 0.0,
) -> Monotonicity:
    """An output does not fall (``increasing``) or rise (``decreasing``) where an input entry grows alone.

    ``feature``: the flat position of the entry, or several of them. ``output``: one of ``outputs`` (the only one need
    not be given), or its difference from the output ``minus``. ``tolerance`` as in :class:`Monotonicity`. Raises
    :class:`InputError` for another direction and an output that is not there.
    """
    if direction not in ("increasing", "decreasing"):
        raise InputError(f"direction: {direction!r} is not increasing or decreasing")
    row = torch.zeros(outputs, dtype=torch.float64)
    row[which_output(output, outputs)] = 1.0
    if minus is not None:
        row[which_output(minus, outputs)] -= 1.0
    features = (feature,) if isinstance(feature, int) else tuple(feature)
    return Monotonicity(features, row if direction == "increasing" else -row, tolerance)
