"""Gaussian attacks: a noise distribution under which another class is expected to score more than the label.

Noise is ``mean + factor z`` within the span of a *basis* of images: single pixels (sparse noise) or low frequencies
(smooth noise). How much it varies is given; how that is divided, and the mean, are optimised so that the mean is as
small as possible. No part of the basis goes without noise. Expected scores are those of :func:`expected_output`, which
is differentiable in both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kreludomain.analysis.moments.gaussian import Gaussian
from kreludomain.analysis.moments.network import expected_output, relu_layers
from kreludomain.analysis.moments.sampling import Sampled, sampled_moments
from kreludomain.deadline import Deadline
from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.network.operators import Shape

#: What a mean image outside the clip costs, next to the mean's own square.
OUTSIDE = 10.0

#: Standard deviations of the parts of a basis differ by at most this factor: noise stays spread over all of them.
RATIO = 3.0

#: How the price of a missing margin grows while it is missing, and shrinks while it is there.
DEARER, CHEAPER = 1.1, 0.95


@dataclass(frozen=True)
class AttackOptions:
    """``std``: root mean square over the pixels that carry noise of their standard deviations. ``margin``: by how much
    the expected score should pass all others (its label's, if untargeted). ``layer``: the ReLU layer that is kept
    (``None``: the last). ``clip``: what values of an image can be; the mean image is kept in it, softly. ``samples``
    check the result, ``rounds`` at most: where the sampled margin is missed, more is asked of the estimate.
    """

    std: float = 0.1
    margin: float = 1.0
    layer: str | None = None
    clip: tuple[float, float] | None = None
    steps: int = 200
    rate: float = 0.05
    samples: int = 20_000
    rounds: int = 3


@dataclass(frozen=True, eq=False)
class Attack:
    """What was found for one image.

    ``noise`` is the distribution that is added to the image, ``basis`` ``(n, k)`` what it is made of, ``target`` the
    class that is to pass. ``expected`` ``(m,)`` are the scores expected by linearisation, ``sampled`` those of Monte
    Carlo.
    ``reached``: the sampled expected score of the target is above every other (untargeted: the label's), by more than
    three standard errors.
    """

    noise: Gaussian
    basis: Tensor
    target: int
    expected: Tensor
    sampled: Sampled
    reached: bool


def sparse_basis(shape: Shape, pixels: Tensor) -> Tensor:
    """The images that are 1 in one entry, for all channels of the ``pixels`` (positions in ``height x width``)."""
    channels, height, width = shape
    entries = (torch.arange(channels)[:, None] * height * width + pixels).flatten()
    return torch.eye(channels * height * width, dtype=torch.float64)[:, entries]


def smooth_basis(shape: Shape, modes: int) -> Tensor:
    """The ``modes x modes`` lowest frequencies of the discrete cosine transform in every channel; orthonormal."""
    channels, height, width = shape
    if not 1 <= modes <= min(height, width):
        raise InputError(f"attack: {modes} modes on an image of {height} x {width} pixels")
    vertical, horizontal = (_cosines(size)[:, :modes] for size in (height, width))
    return torch.kron(torch.eye(channels, dtype=torch.float64), torch.kron(vertical, horizontal))


def _cosines(size: int) -> Tensor:
    """The orthonormal cosines of lengths ``size``, one a column, slowest first."""
    places = torch.arange(size, dtype=torch.float64)
    cosines = torch.cos(math.pi * (places[:, None] + 0.5) * places / size)
    return cosines / torch.linalg.vector_norm(cosines, dim=0)


def smooth_attack(
    network: Network,
    x: Tensor,
    label: int,
    shape: Shape,
    modes: int,
    target: int | None = None,
    options: AttackOptions = AttackOptions(),
    deadline: Deadline = Deadline(),
) -> Attack:
    """Noise of low frequencies on the image ``x``, ``(*input_shape)`` with the pixels of ``shape``
    ``(channels, height, width)``; ``target`` ``None``: any class but the label."""
    search = _Search.of(network, x, label, target, options)
    found = _Found.start(smooth_basis(shape, modes))
    return search.confirmed(found, deadline)


def sparse_attack(
    network: Network,
    x: Tensor,
    label: int,
    shape: Shape,
    pixels: int,
    target: int | None = None,
    options: AttackOptions = AttackOptions(),
    deadline: Deadline = Deadline(),
) -> Attack:
    """As :func:`smooth_attack`, with noise on ``pixels`` pixels only.

    Which ones: noise on all pixels is optimised first, then half of them is given up, those of the smallest means,
    until as many are left.
    """
    size = shape[1] * shape[2]
    if not 1 <= pixels <= size:
        raise InputError(f"attack: {pixels} pixels of an image that has {size}")
    search = _Search.of(network, x, label, target, options)
    chosen = torch.arange(size)
    found = _Found.start(sparse_basis(shape, chosen))
    while len(chosen) > pixels:
        found = search.improved(found, options.margin, deadline)
        strength = found.mean.reshape(shape[0], -1).square().sum(0)
        kept = strength.topk(max(pixels, len(chosen) // 2)).indices.sort().values
        chosen = chosen[kept]
        columns = (torch.arange(shape[0])[:, None] * len(strength) + kept).flatten()
        found = _Found(sparse_basis(shape, chosen), found.mean[columns], found.weights[columns])
    return search.confirmed(found, deadline)


@dataclass(frozen=True, eq=False)
class _Found:
    """Noise as coefficients of a basis: its mean, and how its variance is divided (0: equally)."""

    basis: Tensor
    mean: Tensor
    weights: Tensor

    @classmethod
    def start(cls, basis: Tensor) -> _Found:
        zeros = torch.zeros(basis.shape[1], dtype=basis.dtype)
        return cls(basis, zeros, zeros)

    def noise(self, std: float, shape: Shape) -> Gaussian:
        carriers = int((self.basis != 0).any(1).sum())
        spread = std * (carriers * torch.softmax(math.log(RATIO) * torch.tanh(self.weights), 0)).sqrt()
        return Gaussian((self.basis @ self.mean).reshape(shape), self.basis * spread)


@dataclass(frozen=True, eq=False)
class _Search:
    network: Network
    x: Tensor
    label: int
    target: int | None
    layer: str
    options: AttackOptions

    @classmethod
    def of(cls, network: Network, x: Tensor, label: int, target: int | None, options: AttackOptions) -> _Search:
        classes, layers = network.size(network.output.name), relu_layers(network)
        if tuple(x.shape) != network.input.shape:
            raise InputError(f"attack: an image of shape {tuple(x.shape)}, the network takes {network.input.shape}")
        if not layers:
            raise InputError("attack: the network has no ReLU layer")
        for name, value in (("label", label), ("target", target)):
            if value is not None and not 0 <= value < classes:
                raise InputError(f"attack: {name} {value}, the network has the classes 0 to {classes - 1}")
        if target == label:
            raise InputError(f"attack: the target {target} is the label")
        return cls(network, x.to(network.dtype), label, target, options.layer or layers[-1], options)

    def expected(self, found: _Found) -> Tensor:
        """Scores that are expected with the noise, ``(m,)``; differentiable."""
        noise = found.noise(self.options.std, tuple(self.x.shape))
        return expected_output(self.network, replace(noise, mean=self.x + noise.mean), self.layer)

    def passed(self, scores: Tensor) -> Tensor:
        """By how much the target passes every other class, or the best other class the label."""
        others = torch.arange(len(scores), device=scores.device)
        if self.target is None:
            return scores[others != self.label].max() - scores[self.label]
        return scores[self.target] - scores[others != self.target].max()

    def cost(self, found: _Found) -> Tensor:
        mean = found.basis @ found.mean
        if self.options.clip is None:
            return mean @ mean
        image = self.x.flatten() + mean
        return mean @ mean + OUTSIDE * (image - image.clamp(*self.options.clip)).square().sum()

    def improved(self, found: _Found, margin: float, deadline: Deadline) -> _Found:
        """The cheapest noise that reaches the margin; where none does, the one that comes closest."""
        mean, weights = (value.clone().requires_grad_() for value in (found.mean, found.weights))
        optimiser = torch.optim.Adam([mean, weights], lr=self.options.rate)
        best, rank, price = found, (math.inf, math.inf), 0.01
        for _ in range(self.options.steps):
            now = _Found(found.basis, mean, weights)
            missing = (margin - self.passed(self.expected(now))).clamp(min=0)
            cost = self.cost(now)
            reached = float(missing.detach()), float(cost.detach())
            if reached < rank:
                best, rank = _Found(found.basis, mean.detach().clone(), weights.detach().clone()), reached
            if deadline.passed:
                break
            price *= DEARER if reached[0] > 0 else CHEAPER
            optimiser.zero_grad()
            (cost + price * missing).backward()
            optimiser.step()
        return best

    def confirmed(self, found: _Found, deadline: Deadline) -> Attack:
        """Improved until Monte Carlo agrees that the margin is there, or the rounds are over."""
        margin = self.options.margin
        for remaining in reversed(range(self.options.rounds)):
            found = self.improved(found, margin, deadline)
            attack = self._attack(found)
            missing = self.options.margin - float(self.passed(attack.sampled.mean))
            if missing <= 0 or deadline.passed or not remaining:
                break
            margin += missing
        return attack

    def _attack(self, found: _Found) -> Attack:
        noise = found.noise(self.options.std, tuple(self.x.shape))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            expected = self.expected(found)
        noisy = replace(noise, mean=self.x + noise.mean)
        sampled = sampled_moments(self.network, noisy, self.options.samples, generator)
        scores = sampled.mean.clone()
        scores[self.label] = -math.inf
        target = int(scores.argmax()) if self.target is None else self.target
        rivals = [self.label] if self.target is None else [j for j in range(len(scores)) if j != target]
        ahead = (
            float(sampled.mean[target] - sampled.mean[j]) > 3 * sampled.difference_error(target, j) for j in rivals
        )
        return Attack(noise, found.basis, target, expected, sampled, all(ahead))
