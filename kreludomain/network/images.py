"""Where the channels of an image lie in a network's input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from kreludomain.network.operators import Convolution, Gather, Pad, Permute, Reshape, Scale

if TYPE_CHECKING:
    from kreludomain.network.graph import Node

Layout = Literal["hwc", "chw"]

#: Operators that move entries and leave them as they are.
_MOVES = (Gather, Pad, Permute, Reshape)
#: How many channels images have: none more, in a network without a convolution that would say it.
_CHANNELS = (1, 3, 4)


def input_layout(nodes: Sequence[Node]) -> Layout | None:
    """How the network with these nodes takes images: ``"chw"``, channels first (PyTorch), ``"hwc"``, channels last
    (Keras, TensorFlow), or ``None`` where its input is no image.

    The first convolution says it: where the entries of its channels come from. Without a convolution it is the axis
    that is as long as an image has channels (1, 3 or 4), if only the first or only the last one is.
    """
    shape = nodes[0].shape
    if len(shape) != 3:
        return None
    positions = _at_first_convolution(nodes)
    if positions is not None:
        return _where_channels_are(positions, shape)
    first, last = shape[0] in _CHANNELS, shape[-1] in _CHANNELS
    if first == last:
        return None
    return "chw" if first else "hwc"


def _at_first_convolution(nodes: Sequence[Node]) -> Tensor | None:
    """The flat position in the input of every entry that the first convolution takes, ``(channels, height, width)``.

    -1 for zeros around the image; ``None`` where there is no convolution of the input's own entries.
    """
    first = nodes[0]
    moved = {first.name: torch.arange(1.0, 1.0 + math.prod(first.shape), dtype=torch.float64).reshape(1, *first.shape)}
    for node in nodes[1:]:
        if node.inputs[0] not in moved:
            continue
        value, operator = moved[node.inputs[0]], node.operator
        if isinstance(operator, Convolution) and operator.spatial == 2:
            return value[0].long() - 1
        if isinstance(operator, _MOVES):
            moved[node.name] = operator(value)
        elif isinstance(operator, Scale):  # the normalisation of an image
            moved[node.name] = value
    return None


def _where_channels_are(positions: Tensor, shape: tuple[int, ...]) -> Layout | None:
    """Which axis of the input moves along with the channels, and which two with the rows and the columns."""
    known = positions >= 0
    axes = torch.unravel_index(positions.clamp(min=0), shape)

    def along(axis: Tensor, kept: int) -> bool:
        """Whether an index of the input is the same wherever the position on axis ``kept`` of the image is."""
        other = [i for i in range(3) if i != kept]
        high = torch.where(known, axis, -1).amax(other)
        low = torch.where(known, axis, max(shape)).amin(other)
        return bool((high <= low).all())

    layouts: dict[Layout, tuple[int, int, int]] = {"chw": (0, 1, 2), "hwc": (2, 0, 1)}
    fitting = [
        name for name, order in layouts.items() if all(along(axes[axis], kept) for kept, axis in enumerate(order))
    ]
    return fitting[0] if len(fitting) == 1 else None
