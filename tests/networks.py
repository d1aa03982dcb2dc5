"""Small random networks for tests, all built through ``from_torch``; equal arguments give equal networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from kreludomain.network import Network, from_torch


def dense_module(*widths: int, seed: int = 0, integer: bool = False) -> nn.Sequential:
    """Linear layers of these widths with ReLU between them.

    ``integer`` weights and biases are drawn from -2..2: neurons come out parallel or equal, bounds exactly zero.
    """
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for n, m in pairwise(widths):
        layers += [nn.Linear(n, m, dtype=torch.float64), nn.ReLU()]
    module = nn.Sequential(*layers[:-1])
    for parameter in module.parameters():
        if integer:
            parameter.data = torch.randint(-2, 3, parameter.shape).double()
        elif parameter.dim() == 2:
            parameter.data *= 2  # torch's own initialisation shrinks signals from layer to layer
    return module


def dense(*widths: int, seed: int = 0, integer: bool = False) -> Network:
    return from_torch(dense_module(*widths, seed=seed, integer=integer), widths[:1])


def conv_module(seed: int = 0) -> nn.Sequential:
    """2x6x6 -> convolution -> average pool -> dense: 3 outputs."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(3, 4, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 3),
    ).double()


def conv(seed: int = 0) -> Network:
    return from_torch(conv_module(seed), (2, 6, 6))


class ResidualModule(nn.Module):
    """1x5x5 -> strided convolution, batch norm, blocks that add and subtract, dense: 3 outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 3, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(3), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 3, 1))
        self.other = nn.Conv2d(3, 3, 1, groups=3)
        self.head = nn.Linear(27, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.relu(self.block(x) + x)
        x = torch.relu(x - self.other(x))
        result: Tensor = self.head(x.flatten(1))
        return result


def residual_module(seed: int = 0) -> ResidualModule:
    torch.manual_seed(seed)
    module = ResidualModule().double()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean = torch.randn(layer.num_features, dtype=torch.float64) / 4
            layer.running_var = 0.3 + torch.rand(layer.num_features, dtype=torch.float64)
            layer.weight.data = torch.randn(layer.num_features, dtype=torch.float64)
    return module


def residual(seed: int = 0) -> Network:
    return from_torch(residual_module(seed), (1, 5, 5))


def pooled_module(seed: int = 0) -> nn.Sequential:
    """1x5x5 -> convolution -> maxima of overlapping, padded windows, also of negative numbers -> dense: 3 outputs."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 1, 2),
        nn.LeakyReLU(0.3),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Flatten(),
        nn.Linear(4, 4),
        nn.ReLU(),
        nn.Linear(4, 3),
    ).double()


def pooled(seed: int = 0) -> Network:
    return from_torch(pooled_module(seed), (1, 5, 5))


def activated_module(*widths: int, make: Callable[[], nn.Module], seed: int = 0) -> nn.Sequential:
    """As :func:`dense_module`, with other activations; they see values of a few units."""
    module = dense_module(*widths, seed=seed)
    for parameter in module.parameters():
        parameter.data *= 1.5
    return nn.Sequential(*(make() if isinstance(layer, nn.ReLU) else layer for layer in module))


def activated(*widths: int, make: Callable[[], nn.Module], seed: int = 0) -> Network:
    return from_torch(activated_module(*widths, make=make, seed=seed), widths[:1])


class MixedModule(nn.Module):
    """A ReLU and a sigmoid take the same value: 3 outputs of 4 inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        y = self.second(torch.relu(y) + torch.sigmoid(y))
        result: Tensor = self.third(torch.tanh(y) - torch.relu(y))
        return result


def mixed(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return from_torch(MixedModule(), (4,))


#: One network of every kind by name, of ReLUs and affine operators.
ZOO: dict[str, Callable[[], Network]] = {
    "dense": lambda: dense(5, 8, 8, 8, 3, seed=1),
    "integer": lambda: dense(4, 6, 6, 6, 3, seed=2, integer=True),
    "conv": lambda: conv(seed=3),
    "residual": lambda: residual(seed=4),
    "pooled": lambda: pooled(seed=5),
    "leaky": lambda: activated(4, 6, 6, 3, make=lambda: nn.LeakyReLU(0.2), seed=6),
    "clipped": lambda: activated(4, 6, 6, 3, make=lambda: nn.Hardtanh(-2.0, 2.5), seed=7),
}
#: Networks with other activations.
CURVED: dict[str, Callable[[], Network]] = {
    "sigmoid": lambda: activated(4, 6, 6, 3, make=nn.Sigmoid, seed=8),
    "tanh": lambda: activated(4, 6, 6, 3, make=nn.Tanh, seed=9),
    "mixed": lambda: mixed(seed=10),
}


def inputs(network: Network, count: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    """Normal random inputs ``(count, *input_shape)``."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn((count, *network.input.shape), generator=generator, dtype=torch.float64)


def matrix(function: Callable[[Tensor], Tensor], shape: Sequence[int]) -> Tensor:
    """The matrix ``(outputs, inputs)`` of a linear map on tensors of ``shape``, column by column."""
    size = int(torch.Size(shape).numel())
    return function(torch.eye(size, dtype=torch.float64).reshape(size, *shape)).flatten(1).T
