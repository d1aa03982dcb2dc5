"""Lipschitz estimates from an architecture alone: widths, depth, kinds of layer, initialisation. They are not bounds.

The norm of a matrix ``(m, n)`` with independent entries of standard deviation ``sigma`` is close to
``sigma (sqrt(m) + sqrt(n))`` (Davidson and Szarek 2001; Vershynin, *High-Dimensional Probability*, section 4.4), with
a correction for finite widths: the largest eigenvalue of ``W W^T`` is ``sigma^2 (mu + tau X)`` with
``mu = (sqrt(n - 1) + sqrt(m))^2``, ``tau = sqrt(mu) (1 / sqrt(n - 1) + 1 / sqrt(m))^(1/3)`` and ``X`` of Tracy and
Widom's law, whose mean is -1.2065 (Johnstone, Annals of Statistics 2001). A convolution is a matrix with a pattern of
zeros and shared weights: with at most ``r`` weights into an output and ``c`` out of an input its norm is close to
``sigma (sqrt(r) + sqrt(c))`` (Bandeira and van Handel, Annals of Probability 2016, for independent entries; at each
frequency a convolution is a random matrix of just that norm).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kreludomain.activations import Relu
from kreludomain.errors import InputError
from kreludomain.network import Network, Node
from kreludomain.network.operators import Activation, AffineOperator, Convolution, Input, Linear, Reshape, Shape


@dataclass(frozen=True)
class Initialisation:
    """``sigma(fan_in, fan_out)``: the standard deviation of weights; ``draw(sigma, shape, generator)`` draws them."""

    sigma: Callable[[int, int], float]
    draw: Callable[[float, Shape, torch.Generator], Tensor]


def _normal(sigma: float, shape: Shape, generator: torch.Generator) -> Tensor:
    return sigma * torch.randn(shape, generator=generator, dtype=torch.float64)


def _uniform(sigma: float, shape: Shape, generator: torch.Generator) -> Tensor:
    return math.sqrt(3) * sigma * (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1)


#: He et al. 2015 (kaiming_normal_), Glorot and Bengio 2010 (xavier_uniform_), and the default of torch's layers:
#: uniform within 1 / sqrt(fan_in).
INITIALISATIONS: dict[str, Initialisation] = {
    "he": Initialisation(lambda fan_in, fan_out: math.sqrt(2 / fan_in), _normal),
    "xavier": Initialisation(lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)), _uniform),
    "torch": Initialisation(lambda fan_in, fan_out: math.sqrt(1 / (3 * fan_in)), _uniform),
}

#: The mean of Tracy and Widom's law for real matrices.
TRACY_WIDOM_MEAN = -1.2065

#: Other names of the initialisations.
ALIASES = {"kaiming": "he", "glorot": "xavier", "default": "torch"}


def initialisation(name: str) -> Initialisation:
    """An initialisation by its name. Raises :class:`InputError` for an unknown one."""
    try:
        return INITIALISATIONS[ALIASES.get(name, name)]
    except KeyError:
        raise InputError(f"initialisation: '{name}' is not one of {', '.join([*INITIALISATIONS, *ALIASES])}") from None


@dataclass(frozen=True)
class Dense:
    """A fully connected layer of ``width`` neurons; an image before it is flattened."""

    width: int

    def __post_init__(self) -> None:
        if self.width < 1:
            raise InputError(f"dense layer: {self.width} neurons")

    def __str__(self) -> str:
        return f"dense {self.width}"


@dataclass(frozen=True)
class Conv:
    """A convolution: ``channels`` out, a square ``kernel``, ``stride`` and ``padding`` alike in both directions."""

    channels: int
    kernel: int
    stride: int = 1
    padding: int = 0

    def __post_init__(self) -> None:
        if min(self.channels, self.kernel, self.stride) < 1 or self.padding < 0:
            raise InputError(f"{self}: sizes are 1 or more, padding is 0 or more")

    def __str__(self) -> str:
        return f"conv {self.channels}, {self.kernel}x{self.kernel}, stride {self.stride}, padding {self.padding}"


@dataclass(frozen=True)
class LayerEstimate:
    """A layer with random weights of standard deviation ``sigma``.

    ``norm``: its estimated spectral norm. ``gain``: the root mean square factor by which it changes the length of a
    vector (without the ReLU after it). ``fan_in`` and ``fan_out`` are counted as in ``torch.nn.init``.
    """

    name: str
    fan_in: int
    fan_out: int
    sigma: float
    norm: float
    gain: float


@dataclass(frozen=True)
class Estimate:
    """The estimate of an untrained network.

    ``lipschitz``: the product of the layers' estimated norms, an estimate of the bound ``prod ||W_l||_2``. ``slope``:
    the root mean square of ``||J u||_2`` over Jacobians ``J`` and unit vectors ``u``, with half of the neurons active
    (each hidden ReLU halves the energy; He et al. 2015). This is a typical local slope in a typical direction, far
    below the steepest one.
    """

    layers: tuple[LayerEstimate, ...]
    lipschitz: float
    slope: float


@dataclass(frozen=True)
class Architecture:
    """Layers with a ReLU after each but the last. ``input_shape`` is ``(n,)`` or ``(channels, height, width)``.

    Raises :class:`InputError` that names the layer where sizes do not fit.
    """

    input_shape: Shape
    layers: tuple[Dense | Conv, ...]

    def __post_init__(self) -> None:
        if len(self.input_shape) not in (1, 3) or min(self.input_shape) < 1:
            raise InputError(f"architecture: input {list(self.input_shape)} is not [n] or [channels, height, width]")
        if not self.layers:
            raise InputError("architecture: it has no layers")
        _ = self.operators

    @cached_property
    def operators(self) -> tuple[AffineOperator, ...]:
        """The layers as operators whose weights are placeholders: views of one number, which take no memory."""
        shape, made = self.input_shape, []
        for position, layer in enumerate(self.layers):
            operator: AffineOperator
            if isinstance(layer, Dense):
                size = math.prod(shape)
                operator = Linear(_unallocated((layer.width, size)), None, (size,))
            elif len(shape) != 3:
                raise InputError(f"architecture: layer {position} ({layer}): an image is expected, not {list(shape)}")
            else:
                weight = _unallocated((layer.channels, shape[0], layer.kernel, layer.kernel))
                try:
                    operator = Convolution(weight, None, shape, (layer.stride,) * 2, (layer.padding,) * 2)
                except InputError as error:
                    raise InputError(f"architecture: layer {position} ({layer}): {error}") from None
            made.append(operator)
            shape = operator.out_shape
        return tuple(made)

    def estimate(self, name: str) -> Estimate:
        """The estimate for the initialisation ``name``."""
        return _estimate([(str(layer), o) for layer, o in zip(self.layers, self.operators, strict=True)], name)

    def draw(self, name: str, seed: int = 0) -> Network:
        """A random network of the architecture, without biases."""
        generator, chosen = torch.Generator().manual_seed(seed), initialisation(name)
        nodes = [Node("input", Input(self.input_shape))]
        for position, operator in enumerate(self.operators):
            below = nodes[-1]
            if below.shape != operator.in_shapes[0]:
                below = Node(f"flatten{position}", Reshape(below.shape, operator.in_shapes[0]), (below.name,))
                nodes.append(below)
            blank = operator.tensors()["weight"]
            weight = chosen.draw(chosen.sigma(*_fans(blank)), tuple(blank.shape), generator)
            nodes.append(Node(f"layer{position}", _weighted(operator, weight), (below.name,)))
            if position + 1 < len(self.operators):
                nodes.append(Node(f"relu{position}", Activation(Relu(), nodes[-1].shape), (nodes[-1].name,)))
        return Network(tuple(nodes))


def estimate_of(network: Network, name: str) -> Estimate:
    """The estimate for the architecture of a network: a chain of dense and convolutional layers. Weights are not used.

    Raises :class:`InputError` for other operators (sums, normalisation, pooling), which no initialisation draws.
    """
    layers: list[tuple[str, AffineOperator]] = []
    for node in network.nodes:
        operator = node.operator
        if isinstance(operator, Linear) or (isinstance(operator, Convolution) and operator.groups == 1):
            layers.append((node.name, operator))
        elif not (node.is_relu or isinstance(operator, Input | Reshape)):
            raise InputError(f"architecture: node '{node.name}' is no dense layer and no convolution of one group")
    if not layers:
        raise InputError("architecture: the network has no dense or convolutional layer")
    return _estimate(layers, name)


def _estimate(layers: Sequence[tuple[str, AffineOperator]], name: str) -> Estimate:
    chosen, made = initialisation(name), []
    for label, operator in layers:
        weight = operator.tensors()["weight"]
        fans = _fans(weight)
        sigma = chosen.sigma(*fans)
        into, out_of, mean_out = _connections(operator)
        edge = _random_matrix_norm(*fans) if isinstance(operator, Linear) else math.sqrt(into) + math.sqrt(out_of)
        made.append(LayerEstimate(label, *fans, sigma, sigma * edge, sigma * math.sqrt(mean_out)))
    halves = 0.5 ** ((len(made) - 1) / 2)
    return Estimate(
        tuple(made), math.prod(layer.norm for layer in made), halves * math.prod(layer.gain for layer in made)
    )


def _random_matrix_norm(m: int, n: int) -> float:
    """The norm of a random matrix ``(m, n)`` whose entries have standard deviation 1."""
    m, n = sorted((m, n))
    if n == 1:
        return math.sqrt(2 / math.pi)  # one number: its mean magnitude
    mu = (math.sqrt(n - 1) + math.sqrt(m)) ** 2
    tau = math.sqrt(mu) * (1 / math.sqrt(n - 1) + 1 / math.sqrt(m)) ** (1 / 3)
    return math.sqrt(mu + TRACY_WIDOM_MEAN * tau)


def _fans(weight: Tensor) -> tuple[int, int]:
    """``fan_in`` and ``fan_out`` as ``torch.nn.init`` counts them."""
    field = math.prod(weight.shape[2:])
    return weight.shape[1] * field, weight.shape[0] * field


def _connections(operator: AffineOperator) -> tuple[float, float, float]:
    """The largest number of weights into an output, the largest out of an input, and the mean out of an input."""
    ones = _weighted(operator, torch.ones(operator.tensors()["weight"].shape, dtype=torch.float64))
    with torch.no_grad():
        into = ones.abs_linear(*(torch.ones((1, *shape), dtype=torch.float64) for shape in ones.in_shapes))
        (out_of,) = ones.transpose(torch.ones((1, *ones.out_shape), dtype=torch.float64))
    return float(into.max()), float(out_of.max()), float(out_of.mean())


def _weighted(operator: AffineOperator, weight: Tensor) -> AffineOperator:
    """A dense or convolutional operator with another weight and no bias."""
    if isinstance(operator, Linear):
        return Linear(weight, None, operator.in_shape)
    if isinstance(operator, Convolution):
        o = operator
        return Convolution(weight, None, o.in_shape, o.stride, o.padding, o.dilation, o.groups)
    raise InputError(f"architecture: {type(operator).__name__} has no weights to draw")


def _unallocated(shape: Shape) -> Tensor:
    return torch.zeros((), dtype=torch.float64).expand(shape)
