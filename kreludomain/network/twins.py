"""Twins: neurons of one layer whose values are nearly the same, as those of a network and its copy are."""

from __future__ import annotations

import torch
from torch import Tensor

#: Twins differ by at most this part of how much they vary: those of a network and its quantised or pruned copy do.
_LARGEST_DIFFERENCE = 0.5
#: The least part of a layer's neurons that have a twin. In ordinary layers, some happen to have one; in 90 networks of
#: the competition up to 0.65 of a layer's. Such layers have none, so that nothing changes for them.
_LEAST_PART = 0.75
#: A first layer with more neurons is not searched: people do not put the copies of a convolution into one.
MOST_COMPARED = 1024
#: Inputs that values are compared on, neurons that are looked at first, and neurons that are compared at once.
_SAMPLES, _FIRST, _AT_ONCE = 64, 64, 1024


def random_inputs(shape: tuple[int, ...]) -> Tensor:
    """The inputs ``(samples, *shape)`` that neurons are compared on: uniform in [0, 1] one half, normal the other."""
    generator = torch.Generator().manual_seed(0)
    half = (_SAMPLES // 2, *shape)
    uniform, normal = (draw(half, generator=generator, dtype=torch.float64) for draw in (torch.rand, torch.randn))
    return torch.cat([uniform, normal])


def nearest_twins(values: Tensor) -> Tensor:
    """Disjoint pairs of nearly equal columns of ``values`` ``(samples, n)``: positions ``(P, 2)``, the smaller first.

    Each of a pair is the other's nearest, up to a constant. There are none where fewer than ``_LEAST_PART`` of the
    columns have a twin; columns that do not vary are not counted.
    """
    varying = values.amin(0).lt(values.amax(0)).nonzero()[:, 0]
    count, none = len(varying), varying.new_zeros(0, 2)
    if count < 2:
        return none
    centred = values[:, varying] - values[:, varying].mean(0)
    every = torch.arange(count, device=values.device)
    if _nearest(centred, every[:: -(-count // _FIRST)])[1].double().mean() < _LEAST_PART:
        return none
    parts = [_nearest(centred, part) for part in every.split(_AT_ONCE)]
    nearest, close = (torch.cat(part) for part in zip(*parts, strict=True))
    first = (close & (nearest[nearest] == every) & (every < nearest)).nonzero()[:, 0]
    pairs = varying[torch.stack([first, nearest[first]], dim=1)]
    return pairs if 2 * len(pairs) >= _LEAST_PART * count else none


def _nearest(centred: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """The column nearest to each of the ``chosen`` ones, and whether it is near enough for twins: ``(c,)`` each."""
    square = (centred**2).sum(0)
    distance = square[chosen, None] + square - 2 * centred[:, chosen].T @ centred
    distance[torch.arange(len(chosen)), chosen] = torch.inf
    least, nearest = distance.min(1)
    return nearest, least <= _LARGEST_DIFFERENCE**2 * torch.minimum(square[chosen], square[nearest])
