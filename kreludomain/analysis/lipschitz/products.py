"""The product of layer norms (Szegedy et al., ICLR 2014), here for any graph of layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kreludomain.analysis.lipschitz.affine import Layer, layers
from kreludomain.analysis.lipschitz.norms import Norm, map_norm, norm_of
from kreludomain.network import Network
from kreludomain.network.operators import Activation


@dataclass(frozen=True)
class MapNorm:
    """The certified norm of the affine map from node ``source`` to node ``target``."""

    source: str
    target: str
    norm: Norm


@dataclass(frozen=True)
class Product:
    """``upper``: a certified Lipschitz constant of the network, ``l_p`` to ``l_p``, for all inputs.

    ``nodes`` has a constant for each pre-activation, activation and the output, by name; ``maps`` are the norms used.
    """

    p: float
    upper: float
    maps: tuple[MapNorm, ...]
    nodes: Mapping[str, float]


def product(network: Network, p: float | str = 2, progress: Callable[[], None] = lambda: None) -> Product:
    """The product of the layers' norms; where paths meet, their products are added.

    A layer is everything affine between two activations, as one operator: convolution, batch normalisation and average
    pooling together have a smaller norm than the product of theirs. ``progress`` is called after each norm. Raises
    :class:`InputError` for ``p`` other than 1, 2 and inf, and where an activation is not a ReLU.
    """
    order, found, maps = norm_of(p), {network.input.name: 1.0}, []
    by_target = {layer.target.name: layer for layer in layers(network)}

    def layer_constant(layer: Layer) -> float:
        total = 0.0
        for mapping in layer.maps:
            norm = map_norm(mapping, order)
            maps.append(MapNorm(mapping.source.name, mapping.target.name, norm))
            total += norm.upper * found[mapping.source.name]
            progress()
        return total

    # A ReLU has Lipschitz constant 1 in every entry, so it keeps the constant of its pre-activation.
    for node in network.nodes:
        if isinstance(node.operator, Activation):
            found[node.name] = found[node.inputs[0]]
        elif node.name in by_target and node.name not in found:
            found[node.name] = layer_constant(by_target[node.name])
    return Product(order, found[network.output.name], tuple(maps), found)
