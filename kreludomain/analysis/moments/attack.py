"""Gaussian attacks: a noise distribution under which another class has a larger expected score than the label.

Noise is ``mean + factor z`` within the span of a *basis* of images: single pixels (sparse noise) or low frequencies
(smooth noise). The total variance is given; its division over the basis and the mean are optimised by Adam so that the
mean is as small as possible. Every basis image keeps some of the variance. Expected scores are those of
:func:`expected_output`, which is differentiable in mean and factor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kreludomain.analysis.moments.gaussian import Gaussian
from kreludomain.analysis.moments.network import expected_output, relu_layers
from kreludomain.analysis.moments.sampling import SampledMoments, sampled_moments
from kreludomain.deadline import Deadline
from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.network.operators import Shape

#: Weight of the squared distance of the mean image from the clip, where the mean's squared norm has weight 1.
CLIP_PENALTY = 10.0

#: Largest ratio of two basis images' standard deviations, so that noise stays spread over the whole basis.
MAX_STD_RATIO = 3.0

#: Factors by which the penalty of a missing margin grows in a step where it is missing, and shrinks where it is not.
PENALTY_GROWTH, PENALTY_DECAY = 1.1, 0.95


@dataclass(frozen=True)
class GaussianAttackOptions:
    """How an attack is searched.

    ``std``: root mean square of the standard deviations of the pixels with noise. ``margin``: by how much the target's
    expected score should exceed all others (without a target: any class's the label's). ``layer``: the ReLU layer that
    is kept by the linearisation (``None``: the last). ``clip``: the range of an image's values; a penalty keeps the
    mean image in it. ``steps`` and ``rate``: Adam's steps and learning rate. ``samples``: draws that check the result;
    where they miss the margin, up to ``rounds`` rounds ask the estimate for more.
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
class GaussianAttack:
    """The noise found for one image.

    ``noise`` is the distribution that is added to the image, ``basis`` ``(n, k)`` the images that it combines,
    ``target`` the class that is to win, ``rivals`` those that it is to exceed. ``expected`` ``(m,)`` are the expected
    scores by linearisation, ``sampled`` those by Monte Carlo. ``success``: the sampled mean score of the target exceeds
    every other one (without a target: the label's) by more than three standard errors.
    """

    noise: Gaussian
    basis: Tensor
    target: int
    expected: Tensor
    sampled: SampledMoments
    success: bool
    rivals: tuple[int, ...]

    def share(
        self,
        network: Network,
        x: Tensor,
        output: int,
        count: int = 20_000,
        seed: int = 0,
        mean: Tensor | None = None,
        clip: tuple[float, float] | None = None,
    ) -> float:
        """The share of ``count`` draws of the noise on ``x`` in which an output is the largest.

        ``mean``: another mean of the noise, shaped like ``x``; ``clip``: every entry of a draw is clamped to it.
        """
        noisy = replace(self.noise, mean=x + (self.noise.mean if mean is None else mean))
        return float(sampled_moments(network, noisy, count, torch.Generator().manual_seed(seed), clip).share[output])

    def random_mean(self, seed: int = 0) -> Tensor:
        """A mean ``(*input_shape)`` of the same size in a random direction within the basis, to compare with."""
        generator = torch.Generator().manual_seed(seed)
        mean: Tensor = self.basis @ torch.randn(self.basis.shape[1], generator=generator, dtype=torch.float64)
        return mean.mul(self.noise.mean.norm()).div(mean.norm()).reshape(self.noise.mean.shape)


def sparse_basis(shape: Shape, pixels: Tensor) -> Tensor:
    """Images with one entry 1, for every channel of the ``pixels`` (positions in ``height x width``), ``(n, k)``."""
    channels, height, width = shape
    entries = (torch.arange(channels)[:, None] * height * width + pixels).flatten()
    return torch.eye(channels * height * width, dtype=torch.float64)[:, entries]


def smooth_basis(shape: Shape, modes: int) -> Tensor:
    """The ``modes x modes`` lowest frequencies of the discrete cosine transform in every channel, ``(n, k)``.

    The columns are orthonormal. Raises :class:`InputError` for more modes than pixels along an axis.
    """
    channels, height, width = shape
    if not 1 <= modes <= min(height, width):
        raise InputError(f"attack: {modes} modes on an image of {height} x {width} pixels")
    vertical, horizontal = (_cosines(size)[:, :modes] for size in (height, width))
    return torch.kron(torch.eye(channels, dtype=torch.float64), torch.kron(vertical, horizontal))


def _cosines(size: int) -> Tensor:
    """The orthonormal basis of the discrete cosine transform (DCT-II) as columns, lowest frequency first."""
    places = torch.arange(size, dtype=torch.float64)
    cosines = torch.cos(math.pi * (places[:, None] + 0.5) * places / size)
    result: Tensor = cosines / torch.linalg.vector_norm(cosines, dim=0)
    return result


def smooth_attack(
    network: Network,
    x: Tensor,
    label: int,
    shape: Shape,
    modes: int,
    target: int | None = None,
    options: GaussianAttackOptions = GaussianAttackOptions(),
    deadline: Deadline = Deadline(),
) -> GaussianAttack:
    """Noise of low frequencies on the image ``x`` ``(*input_shape)``, whose pixels are ``shape``.

    ``shape`` is ``(channels, height, width)``; without a ``target``, any class but the label will do. Raises
    :class:`InputError` for an image, class, layer or number of modes that does not fit.
    """
    search = _AttackSearch.of(network, x, label, target, options)
    return search.confirmed(_Candidate.initial(smooth_basis(shape, modes)), deadline)


def sparse_attack(
    network: Network,
    x: Tensor,
    label: int,
    shape: Shape,
    pixels: int,
    target: int | None = None,
    options: GaussianAttackOptions = GaussianAttackOptions(),
    deadline: Deadline = Deadline(),
) -> GaussianAttack:
    """As :func:`smooth_attack`, with noise on ``pixels`` pixels only.

    The pixels are chosen by pruning: noise on all pixels is optimised, the half with the smallest means is dropped, and
    so on until ``pixels`` are left.
    """
    size = shape[1] * shape[2]
    if not 1 <= pixels <= size:
        raise InputError(f"attack: {pixels} pixels of an image that has {size}")
    search = _AttackSearch.of(network, x, label, target, options)
    chosen = torch.arange(size)
    found = _Candidate.initial(sparse_basis(shape, chosen))
    while len(chosen) > pixels:
        found = search.optimised(found, options.margin, deadline)
        strength = found.mean.reshape(shape[0], -1).square().sum(0)
        kept = strength.topk(max(pixels, len(chosen) // 2)).indices.sort().values
        chosen = chosen[kept]
        columns = (torch.arange(shape[0])[:, None] * len(strength) + kept).flatten()
        found = _Candidate(sparse_basis(shape, chosen), found.mean[columns], found.weights[columns])
    return search.confirmed(found, deadline)


@dataclass(frozen=True, eq=False)
class _Candidate:
    """Noise in a basis: its ``mean`` ``(k,)`` and the ``weights`` ``(k,)`` of its variance (0: equal)."""

    basis: Tensor
    mean: Tensor
    weights: Tensor

    @classmethod
    def initial(cls, basis: Tensor) -> _Candidate:
        zeros = torch.zeros(basis.shape[1], dtype=basis.dtype)
        return cls(basis, zeros, zeros)

    def noise(self, std: float, shape: Shape) -> Gaussian:
        noisy_entries = int((self.basis != 0).any(1).sum())
        spread = std * (noisy_entries * torch.softmax(math.log(MAX_STD_RATIO) * torch.tanh(self.weights), 0)).sqrt()
        return Gaussian((self.basis @ self.mean).reshape(shape), self.basis * spread)


@dataclass(frozen=True, eq=False)
class _AttackSearch:
    """One image's attack: the expected scores and the objective of a candidate, and its optimisation."""

    network: Network
    x: Tensor
    label: int
    target: int | None
    layer: str
    options: GaussianAttackOptions

    @classmethod
    def of(
        cls, network: Network, x: Tensor, label: int, target: int | None, options: GaussianAttackOptions
    ) -> _AttackSearch:
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

    def expected(self, found: _Candidate) -> Tensor:
        """The expected scores with the noise, ``(m,)``; differentiable."""
        noise = found.noise(self.options.std, tuple(self.x.shape))
        return expected_output(self.network, replace(noise, mean=self.x + noise.mean), self.layer)

    def margin(self, scores: Tensor) -> Tensor:
        """The target's score minus the largest other one; without a target, the largest other one minus the label's."""
        others = torch.arange(len(scores), device=scores.device)
        if self.target is None:
            return scores[others != self.label].max() - scores[self.label]
        return scores[self.target] - scores[others != self.target].max()

    def objective(self, found: _Candidate) -> Tensor:
        """The squared norm of the noise's mean, plus the penalty of a mean image outside the clip."""
        mean = found.basis @ found.mean
        if self.options.clip is None:
            return mean @ mean
        image = self.x.flatten() + mean
        return mean @ mean + CLIP_PENALTY * (image - image.clamp(*self.options.clip)).square().sum()

    def optimised(self, found: _Candidate, margin: float, deadline: Deadline) -> _Candidate:
        """The noise of smallest objective that reaches the margin; if none does, the noise that comes closest."""
        mean, weights = (value.clone().requires_grad_() for value in (found.mean, found.weights))
        optimiser = torch.optim.Adam([mean, weights], lr=self.options.rate)
        best, best_rank, penalty = found, (math.inf, math.inf), 0.01
        for _ in range(self.options.steps):
            now = _Candidate(found.basis, mean, weights)
            missing = (margin - self.margin(self.expected(now))).clamp(min=0)
            objective = self.objective(now)
            rank = float(missing.detach()), float(objective.detach())
            if rank < best_rank:
                best, best_rank = _Candidate(found.basis, mean.detach().clone(), weights.detach().clone()), rank
            if deadline.passed:
                break
            penalty *= PENALTY_GROWTH if rank[0] > 0 else PENALTY_DECAY
            optimiser.zero_grad()
            (objective + penalty * missing).backward()
            optimiser.step()
        return best

    def confirmed(self, found: _Candidate, deadline: Deadline) -> GaussianAttack:
        """Optimised until the margin of the sampled scores is as large as asked for, or the rounds are over."""
        margin = self.options.margin
        for remaining in reversed(range(self.options.rounds)):
            found = self.optimised(found, margin, deadline)
            attack = self._attack(found)
            missing = self.options.margin - float(self.margin(attack.sampled.mean))
            if missing <= 0 or deadline.passed or not remaining:
                break
            margin += missing
        return attack

    def _attack(self, found: _Candidate) -> GaussianAttack:
        noise = found.noise(self.options.std, tuple(self.x.shape))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            expected = self.expected(found)
        noisy = replace(noise, mean=self.x + noise.mean)
        sampled = sampled_moments(self.network, noisy, self.options.samples, generator)
        scores = sampled.mean.clone()
        scores[self.label] = -math.inf
        target = int(scores.argmax()) if self.target is None else self.target
        rivals = (self.label,) if self.target is None else tuple(j for j in range(len(scores)) if j != target)
        ahead = (
            float(sampled.mean[target] - sampled.mean[j]) > 3 * sampled.difference_error(target, j) for j in rivals
        )
        return GaussianAttack(noise, found.basis, target, expected, sampled, all(ahead), rivals)
