"""What a moments run computes: estimates next to Monte Carlo for every sample and noise, then the attacks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from kreludomain.analysis.moments import (
    RULES,
    Gaussian,
    GaussianAttack,
    GaussianAttackOptions,
    Moments,
    SampledMoments,
    agreement,
    gaussian,
    network_moments,
    pixel_covariance,
    propagated_moments,
    relu_layers,
    sampled_moments,
    smooth_attack,
    smooth_basis,
    sparse_attack,
)
from kreludomain.deadline import Deadline
from kreludomain.errors import InputError
from kreludomain.network import Network, load
from kreludomain.network.operators import Shape
from kreludomain.run.config.data import Sample, load_samples, read_array
from kreludomain.run.config.files import ConfigFile
from kreludomain.run.moments_config import AttackConfig, MomentsConfig

#: What the estimates that keep no layer, and every layer, are called.
NONE, EVERY = "none (linear)", "every layer"

#: Draws with which an attack is sampled as an image format would have it, and its control.
CHECKS = 20_000


@dataclass(frozen=True)
class MomentRow:
    """An estimate of a sample's moments next to Monte Carlo; errors as in ``Agreement``.

    ``layer`` is the ReLU layer that is kept, ``rule`` how its covariance is computed, ``displacement`` how far from the
    mean the network is linearised. ``cheap_difference`` is how far the covariance is from the one by the exact rule.
    """

    index: int
    label: int
    noise: str
    layer: str
    rule: str
    displacement: float
    mean: float | None
    std: float | None
    covariance: float | None
    max_z_score: float | None
    mean_sampling_error: float | None
    covariance_sampling_error: float | None
    cheap_difference: float | None
    samples: int
    seconds: float
    row: str = "moments"


@dataclass(frozen=True)
class AttackRow:
    """What an attack found for a sample. Scores are those of the target less the best other (untargeted: the label).

    ``expected`` by linearisation, ``sampled`` by Monte Carlo with its standard ``error``. ``size`` is the l_2 norm of
    the noise's mean, ``largest`` its largest entry, ``std`` the root mean square of the standard deviations of the
    entries that vary. ``target_share`` and ``label_share``: how often draws are classified so; ``clipped_share``: as
    the target when every entry is moved into the clip. ``control_share``: as the label, when the mean has the same size
    and a random direction within the same pixels or frequencies. ``None`` where there was nothing to attack, for which
    there is a ``reason``.
    """

    index: int
    label: int
    attack: str
    target: int | None = None
    success: bool = False
    expected: float | None = None
    sampled: float | None = None
    error: float | None = None
    size: float | None = None
    largest: float | None = None
    std: float | None = None
    target_share: float | None = None
    label_share: float | None = None
    clipped_share: float | None = None
    control_share: float | None = None
    seconds: float = 0.0
    reason: str = ""
    row: str = "attack"


@dataclass(frozen=True, eq=False)
class Portrait:
    """One sample's moments in full, for a picture: Monte Carlo and the estimates by name."""

    sample: Sample
    noise: str
    sampled: SampledMoments
    estimates: dict[str, Moments]


@dataclass(frozen=True, eq=False)
class Attacked:
    """An attack with the image it is on."""

    row: AttackRow
    sample: Sample
    attack: GaussianAttack
    plain: Tensor


@dataclass(frozen=True, eq=False)
class Study:
    """A configuration with everything that it names: loaded, checked, ready to go."""

    config: MomentsConfig
    network: Network
    samples: tuple[Sample, ...]
    shape: Shape
    noises: dict[str, Tensor]
    layers: tuple[str, ...]

    @property
    def size(self) -> int:
        """How many steps there will be: a Monte Carlo run each, or an attack."""
        return len(self.samples) * (len(self.noises) + len(self.config.attacks))

    def moments(self) -> Iterator[tuple[list[MomentRow], Portrait]]:
        """The rows of every sample and noise, samples first."""
        for sample in self.samples:
            for noise, covariance in self.noises.items():
                yield self._moments(sample, noise, covariance)

    def attacks(self) -> Iterator[AttackRow | Attacked]:
        """Every sample with every attack; a row alone where there was nothing to attack."""
        for sample in self.samples:
            with torch.no_grad():
                plain = self.network(sample.x[None])[0]
            for attack in self.config.attacks:
                yield self._attack(sample, plain, attack)

    def _moments(self, sample: Sample, noise: str, covariance: Tensor) -> tuple[list[MomentRow], Portrait]:
        config = self.config
        generator = torch.Generator().manual_seed(config.seed)
        x = gaussian(sample.x, covariance).fit(self.network)
        sampled = sampled_moments(self.network, x, config.samples, generator, deadline=Deadline.after(config.timeout_s))
        away = x.sample(1, torch.Generator().manual_seed(config.seed + 1))[0] - x.mean
        rows, estimates = [], {}
        for layer, displacement in self._places():
            found: dict[str, Moments] = {}
            for rule in RULES if layer != NONE else ("exact",):
                start = time.perf_counter()
                found[rule] = self._estimate(x, layer, rule, x.mean + displacement * away)
                seconds = time.perf_counter() - start
                difference = found[rule].covariance - found["exact"].covariance
                close = agreement(found[rule], sampled)
                row = MomentRow(
                    index=sample.index,
                    label=sample.label,
                    noise=noise,
                    layer=layer,
                    rule=rule,
                    displacement=displacement,
                    mean=_finite(close.mean),
                    std=_finite(close.std),
                    covariance=_finite(close.covariance),
                    max_z_score=_finite(close.max_z_score),
                    mean_sampling_error=_finite(close.mean_sampling_error),
                    covariance_sampling_error=_finite(close.covariance_sampling_error),
                    cheap_difference=_finite(float(difference.norm() / found["exact"].covariance.norm())),
                    samples=sampled.count,
                    seconds=seconds,
                )
                rows.append(row)
            if not displacement:
                estimates[layer] = found["exact"]
        return rows, Portrait(sample, noise, sampled, estimates)

    def _places(self) -> list[tuple[str, float]]:
        """Where one linearises: the layers that are kept, and how far from the mean."""
        local = [(layer, away) for away in self.config.displacements for layer in (NONE, *self.layers)]
        return [*local, (EVERY, 0.0)] if relu_layers(self.network) else local

    def _estimate(self, x: Gaussian, layer: str, rule: str, point: Tensor) -> Moments:
        if layer == EVERY:
            return propagated_moments(self.network, x, rule)
        return network_moments(self.network, x, None if layer == NONE else layer, rule, point)

    def _attack(self, sample: Sample, plain: Tensor, config: AttackConfig) -> AttackRow | Attacked:
        predicted = int(plain.argmax())
        unable = None
        if predicted != sample.label:
            unable = f"classified as {predicted}, the label is {sample.label}"
        elif config.target == sample.label:
            unable = "the target is the label"
        if unable is not None:
            return AttackRow(sample.index, sample.label, config.label, config.target, reason=unable)
        start = time.perf_counter()
        options = GaussianAttackOptions(config.std, config.margin, config.layer, config.clip, config.steps)
        deadline = Deadline.after(self.config.timeout_s)
        found = make_attack(config, self.shape)(
            self.network, sample.x, sample.label, target=config.target, options=options, deadline=deadline
        )
        return Attacked(self._row(sample, config, found, time.perf_counter() - start), sample, found, plain)

    def _row(self, sample: Sample, config: AttackConfig, found: GaussianAttack, seconds: float) -> AttackRow:
        noise, scores, label, target = found.noise, found.sampled, sample.label, found.target
        rivals = [j for j in range(len(scores.mean)) if j != target] if config.target is not None else [label]
        rival = max(rivals, key=lambda j: float(scores.mean[j]))
        varies = noise.std[noise.std > 0]
        clipped = None
        if config.clip is not None:
            clipped = float(self._share(replace(noise, mean=sample.x + noise.mean), config.clip)[target])
        return AttackRow(
            index=sample.index,
            label=label,
            attack=config.label,
            target=target,
            success=found.success,
            expected=float(found.expected[target] - max(found.expected[j] for j in rivals)),
            sampled=float(scores.mean[target] - scores.mean[rival]),
            error=found.sampled.difference_error(target, rival),
            size=float(noise.mean.norm()),
            largest=float(noise.mean.abs().max()),
            std=float(varies.square().mean().sqrt()) if len(varies) else 0.0,
            target_share=float(scores.share[target]),
            label_share=float(scores.share[label]),
            clipped_share=clipped,
            control_share=float(self._share(self._control(sample, found), None)[label]),
            seconds=seconds,
            reason="" if found.success else "the sampled score does not pass",
        )

    def _control(self, sample: Sample, found: GaussianAttack) -> Gaussian:
        generator = torch.Generator().manual_seed(self.config.seed)
        mean = found.basis @ torch.randn(found.basis.shape[1], generator=generator, dtype=torch.float64)
        mean = mean * found.noise.mean.norm() / mean.norm()
        return replace(found.noise, mean=sample.x + mean.reshape(sample.x.shape))

    def _share(self, x: Gaussian, clip: tuple[float, float] | None) -> Tensor:
        generator = torch.Generator().manual_seed(self.config.seed)
        return sampled_moments(self.network, x, CHECKS, generator, clip).share


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def make_attack(config: AttackConfig, shape: Shape) -> Callable[..., GaussianAttack]:
    """The attack that a configuration asks for, on images of ``shape``."""
    kinds: dict[str, Callable[..., GaussianAttack]] = {
        "sparse": partial(sparse_attack, pixels=config.pixels or 1),
        "smooth": partial(smooth_attack, modes=config.modes or 1),
    }
    return partial(kinds[config.kind], shape=shape)


def prepare(file: ConfigFile[MomentsConfig]) -> Study:
    """Loads and checks everything. Raises :class:`InputError` for what would go wrong later on."""
    config = file.config
    network = load(file.path(config.network))
    samples = load_samples(file, config.data, network.input.shape)
    shape = image_shape(network.input.shape, config.image, f"{file.source}: image")
    known = relu_layers(network)
    for position, name in enumerate(() if config.layers == "all" else config.layers):
        _known_layer(name, known, f"{file.source}: layers[{position}]")
    for position, attack in enumerate(config.attacks):
        _check_attack(attack, network, shape, known, f"{file.source}: attacks[{position}]")
    classes = network.size(network.output.name)
    for sample in samples if config.attacks else ():
        if not 0 <= sample.label < classes:
            raise InputError(f"{file.source}: sample {sample.index}: label {sample.label}, the network has {classes}")
    layers = known if config.layers == "all" else tuple(config.layers)
    return Study(config, network, tuple(samples), shape, _noises(file, shape), layers)


def _known_layer(name: str, known: tuple[str, ...], where: str) -> None:
    if name not in known:
        raise InputError(f"{where}: '{name}' is no ReLU layer; there are {', '.join(known) or 'none'}")


def _check_attack(attack: AttackConfig, network: Network, shape: Shape, known: tuple[str, ...], where: str) -> None:
    """Raises for what no sample could be attacked with."""
    if not known:
        raise InputError(f"{where}: the network has no ReLU layer")
    if attack.layer is not None:
        _known_layer(attack.layer, known, f"{where}.layer")
    classes, pixels = network.size(network.output.name), shape[1] * shape[2]
    if classes < 2:
        raise InputError(f"{where}: the network has one output; an attack needs another class")
    if attack.target is not None and attack.target >= classes:
        raise InputError(f"{where}.target: {attack.target}, the classes are 0 to {classes - 1}")
    if attack.pixels is not None and attack.pixels > pixels:
        raise InputError(f"{where}.pixels: {attack.pixels}, the image has {pixels}")
    if attack.modes is not None:
        try:
            smooth_basis(shape, attack.modes)
        except InputError as error:
            raise InputError(f"{where}.modes: {error}") from None


def image_shape(shape: Shape, given: tuple[int, int] | None, where: str) -> Shape:
    """``(channels, height, width)`` of an input: its own, the one given, else a square or a line of entries."""
    size = math.prod(shape)
    if given is not None:
        if min(given) < 1 or size % (given[0] * given[1]):
            raise InputError(f"{where}: {given[0]} x {given[1]} pixels do not fit an input of {size} values")
        return (size // (given[0] * given[1]), *given)
    if len(shape) == 3:
        return shape
    side = math.isqrt(size)
    return (1, side, side) if side * side == size else (1, 1, size)


def _noises(file: ConfigFile[MomentsConfig], shape: Shape) -> dict[str, Tensor]:
    """Covariances of the input, ``(n, n)``, by what tables call them."""
    noise = file.config.noise
    if noise is None:
        return {}
    if noise.covariance is not None:
        path = file.path(noise.covariance)
        covariance = read_array(path)
        try:
            gaussian(torch.zeros(math.prod(shape), dtype=torch.float64), covariance)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        return {path.name: covariance}
    return {f"{std:g}": pixel_covariance(shape, std, noise.correlation) for std in noise.std or ()}
