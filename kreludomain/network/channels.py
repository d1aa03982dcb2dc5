"""Networks of images whose channels come last, as networks of images whose channels come first."""

from __future__ import annotations

import dataclasses

from kreludomain.network.graph import Network, Node
from kreludomain.network.operators import Input, Permute


def channels_first(network: Network) -> Network:
    """The same function of images ``(channels, height, width)``; a network that takes no other ones as it is."""
    if network.input_layout != "hwc":
        return network
    first, *others = network.nodes
    height, width, channels = first.shape
    image = Node(f"{first.name} channels first", Input((channels, height, width)))
    moved = Node(first.name, Permute(image.shape, (1, 2, 0)), (image.name,))
    return dataclasses.replace(network, nodes=(image, moved, *others), model=None)
