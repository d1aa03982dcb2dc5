"""``kreludomain moments``: a row a sample and noise with all estimates, then a row a sample and attack."""

from __future__ import annotations

import hashlib
import math
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from rich.console import Console
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
    image_shape,
    network_moments,
    pixel_covariance,
    propagated_moments,
    relu_layers,
    sampled_moments,
    smooth_attack,
    smooth_basis,
    sparse_attack,
)
from kreludomain.data import Sample
from kreludomain.data.arrays import read_array
from kreludomain.deadline import Deadline
from kreludomain.errors import InputError
from kreludomain.network import Network, channels_first
from kreludomain.network.operators import Shape
from kreludomain.property import robustness
from kreludomain.run.config.data import load_samples
from kreludomain.run.config.files import ConfigFile
from kreludomain.run.engine.folder import Folder, arrays_file, file_name
from kreludomain.run.engine.record import network_hash, samples_hash
from kreludomain.run.engine.study import Computed, Study, Task
from kreludomain.run.moments.config import AttackConfig, MomentsConfig
from kreludomain.run.moments.rows import EVERY, LINEAR, AnyRow, AttackRow, Estimate, MomentRow, csv_files, screen_tables
from kreludomain.run.output.tables import finite

#: Draws by which an attack's clipped share and its control share are counted.
CHECKS = 20_000

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class MomentsTask(Task[AnyRow]):
    """A task that fills its ``row`` itself; ``folder`` is where its arrays are kept."""

    folder: ClassVar[str]
    sample: Sample

    @abstractmethod
    def compute(self, study: MomentsStudy) -> tuple[AnyRow, Arrays]:
        """The row, and arrays for its picture; none where there is nothing to show."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EstimatesTask(MomentsTask):
    """All estimates of a sample's moments with one noise, next to Monte Carlo. ``pictured``: with arrays."""

    folder = "moments"
    row: MomentRow
    pictured: bool

    def compute(self, study: MomentsStudy) -> tuple[MomentRow, Arrays]:
        config, network = study.config, study.network
        generator, deadline = torch.Generator().manual_seed(config.seed), Deadline.after(config.timeout_s)
        x = gaussian(self.sample.x, study.noises[self.row.noise]).fit(network)
        sampled = sampled_moments(network, x, config.samples, generator, deadline=deadline)
        draw = x.sample(1, torch.Generator().manual_seed(config.seed + 1))[0] - x.mean
        estimates: list[Estimate] = []
        moments: dict[str, Moments] = {"Monte Carlo": sampled}
        for layer, displacement in study.places:
            exact: Moments | None = None
            for rule in RULES if layer != LINEAR else ("exact",):  # "exact" is the first of RULES
                start = time.perf_counter()
                found = _moments(network, x, layer, rule, x.mean + displacement * draw)
                seconds = time.perf_counter() - start
                exact = exact or found
                estimates.append(_estimate((layer, rule, displacement), found, exact, sampled, seconds))
            if exact is not None and not displacement:
                moments[layer] = exact
        own = agreement(sampled, sampled)
        row = replace(
            self.row,
            samples=sampled.count,
            mean_sampling_error=finite(own.mean_sampling_error),
            covariance_sampling_error=finite(own.covariance_sampling_error),
            estimates=tuple(estimates),
        )
        arrays = {  # (k,), (k, m) and (k, m, m), Monte Carlo's first
            "names": np.array(list(moments)),
            "means": torch.stack([found.mean for found in moments.values()]).numpy(),
            "covariances": torch.stack([found.covariance for found in moments.values()]).numpy(),
        }
        return row, arrays if self.pictured else {}


def _moments(network: Network, x: Gaussian, layer: str, rule: str, point: Tensor) -> Moments:
    if layer == EVERY:
        return propagated_moments(network, x, rule)
    return network_moments(network, x, None if layer == LINEAR else layer, rule, point)


def _estimate(
    about: tuple[str, str, float], found: Moments, exact: Moments, sampled: SampledMoments, seconds: float
) -> Estimate:
    """An estimate beside Monte Carlo; ``about``: its layer, rule and displacement."""
    close, difference = agreement(found, sampled), (found.covariance - exact.covariance).norm()
    mean, std, covariance, z_score = map(finite, (close.mean, close.std, close.covariance, close.max_z_score))
    cheap = finite(float(difference / exact.covariance.norm()))
    return Estimate(*about, mean, std, covariance, z_score, cheap, seconds)


@dataclass(frozen=True, kw_only=True, eq=False)
class AttackTask(MomentsTask):
    """An attack on a sample that is classified rightly, and whose label is not the target."""

    folder = "attacks"
    row: AttackRow
    attack: AttackConfig

    def compute(self, study: MomentsStudy) -> tuple[AttackRow, Arrays]:
        sample, row = self.sample, self.row
        with torch.no_grad():
            scores = study.network(sample.x[None])[0]
        predicted = int(scores.argmax())
        if predicted != sample.label:
            return replace(row, reason=f"classified as {predicted}, the label is {sample.label}"), {}
        if self.attack.target == sample.label:
            return replace(row, reason="the target is the label"), {}
        deadline = Deadline.after(study.config.timeout_s)
        found = run_attack(self.attack, study.network, study.shape, sample, deadline)
        return self._filled(study, found), _attack_arrays(sample, scores, found)

    def _filled(self, study: MomentsStudy, found: GaussianAttack) -> AttackRow:
        sample, target, noise = self.sample, found.target, found.noise
        largest = max(found.rivals, key=lambda j: float(found.sampled.mean[j]))
        noisy = noise.std[noise.std > 0]
        shares = partial(found.share, study.network, sample.x, count=CHECKS, seed=study.config.seed)
        clipped = None if self.attack.clip is None else shares(target, clip=self.attack.clip)
        return replace(
            self.row,
            target=target,
            success=found.success,
            expected=float(found.expected[target] - max(found.expected[j] for j in found.rivals)),
            sampled=float(found.sampled.mean[target] - found.sampled.mean[largest]),
            error=found.sampled.difference_error(target, largest),
            size=float(noise.mean.norm()),
            largest=float(noise.mean.abs().max()),
            std=float(noisy.square().mean().sqrt()) if len(noisy) else 0.0,
            target_share=float(found.sampled.share[target]),
            label_share=float(found.sampled.share[sample.known_label]),
            clipped_share=clipped,
            control_share=shares(sample.known_label, mean=found.random_mean(study.config.seed)),
            reason="" if found.success else "the sampled score does not exceed the others",
        )


def run_attack(
    attack: AttackConfig, network: Network, shape: Shape, sample: Sample, deadline: Deadline = Deadline()
) -> GaussianAttack:
    """The attack that a configuration asks for, on an image of ``shape``."""
    kinds: dict[str, Callable[..., GaussianAttack]] = {
        "sparse": partial(sparse_attack, pixels=attack.pixels or 1),
        "smooth": partial(smooth_attack, modes=attack.modes or 1),
    }
    options = GaussianAttackOptions(attack.std, attack.margin, attack.layer, attack.clip, attack.steps)
    about = (network, sample.x, sample.known_label, shape)
    return kinds[attack.kind](*about, target=attack.target, options=options, deadline=deadline)


def _attack_arrays(sample: Sample, scores: Tensor, found: GaussianAttack) -> Arrays:
    """The image, mean and factor of the noise on it, and scores ``(m,)``: without noise, expected, and sampled."""
    tensors = {
        "image": sample.x,
        "mean": found.noise.mean,
        "factor": found.noise.factor,
        "scores": scores,
        "expected": found.expected,
        "sampled": found.sampled.mean,
        "sampled_std": found.sampled.std,
        "share": found.sampled.share,
    }
    return {name: tensor.numpy() for name, tensor in tensors.items()}


@dataclass(frozen=True, eq=False)
class MomentsStudy(Study[MomentsConfig, MomentsTask, AnyRow]):
    """Estimates of moments next to Monte Carlo, and Gaussian attacks.

    ``shape`` is that of images, ``(channels, height, width)``; ``noises`` are covariances ``(n, n)`` by their names in
    tables; ``layers`` the ReLU layers to keep.
    """

    name = "moments"
    help = "Mean and covariance of the output under Gaussian noise, and Gaussian attacks."
    config_model = MomentsConfig
    row_type = AnyRow
    files = (
        *("moments.csv", "attacks.csv", "errors.*", "displacements.*", "outputs.*", "attacks.*"),
        *("attacks/*.npz", "moments/*.npz"),
    )

    config: MomentsConfig
    network: Network
    samples: tuple[Sample, ...]
    shape: Shape
    noises: Mapping[str, Tensor]
    layers: tuple[str, ...]

    @property
    def places(self) -> list[tuple[str, float]]:
        """The layer that is kept, and how far from the mean the others are linearised, of each estimate."""
        kept = [(layer, away) for away in self.config.displacements for layer in (LINEAR, *self.layers)]
        return [*kept, (EVERY, 0.0)] if relu_layers(self.network) else kept

    @classmethod
    def prepare(cls, file: ConfigFile[MomentsConfig]) -> MomentsStudy:
        config = file.config
        network = config.network.load(file)
        samples, noises_lie = load_samples(file, config.data, network), network.input_layout
        if network.input_layout == "hwc":  # covariances, attacks and pictures are of images with their channels first
            network = channels_first(network)
            samples = tuple(replace(sample, x=sample.x.permute(2, 0, 1)) for sample in samples)
        with file.named("image"):
            shape = image_shape(network.input.shape, config.image)
        layers = relu_layers(network) if config.layers == "all" else config.layers
        for position, name in enumerate(layers):
            with file.named(f"layers[{position}]"):
                _require_relu(name, network)
        for position, attack in enumerate(config.attacks):
            with file.named(f"attacks[{position}]"):
                _check_attack(attack, network, shape)
        for sample in samples if config.attacks else ():
            with file.named(f"sample {sample.index}"):
                robustness(sample.known_label, network.size(network.output.name))
        return cls(config, network, samples, shape, _noises(file, shape, noises_lie), tuple(layers))

    def notes(self) -> Sequence[str]:
        return self.network.notes

    def contents(self) -> Mapping[str, str]:
        noises = hashlib.sha256()
        for covariance in self.noises.values():
            noises.update(covariance.contiguous().numpy().tobytes())
        hashes = {"network": network_hash(self.network), "data": samples_hash(self.samples)}
        return hashes | {"noise": noises.hexdigest()}

    def tasks(self) -> Sequence[MomentsTask]:
        samples, noises, attacks = self.samples, self.noises, self.config.attacks
        pictured = samples[0], [*noises][-1] if noises else None
        pairs = [(sample, noise) for sample in samples for noise in noises]
        estimates = [self._estimates(*pair, pair == pictured) for pair in pairs]
        return [*estimates, *(self._attack(sample, attack) for sample in samples for attack in attacks)]

    def _estimates(self, sample: Sample, noise: str, pictured: bool) -> EstimatesTask:
        row = MomentRow(sample.index, sample.label, noise)
        text = f"sample {sample.index}, noise {noise}"
        return EstimatesTask(row=row, text=text, kind="moments", sample=sample, pictured=pictured)

    def _attack(self, sample: Sample, attack: AttackConfig) -> AttackTask:
        row = AttackRow(sample.index, sample.known_label, attack.name, attack.target)
        text = f"sample {sample.index}, {attack.name}"
        return AttackTask(row=row, text=text, kind=attack.name, sample=sample, attack=attack)

    def compute(self, task: MomentsTask, needed: AnyRow | None) -> Computed[AnyRow]:
        start = time.monotonic()
        row, arrays = task.compute(self)
        name = file_name(task.folder, row.key[1:], "npz") if arrays else None
        row = replace(row, seconds=time.monotonic() - start, arrays=name)
        return Computed(row, {} if name is None else {name: arrays_file(**arrays)})

    def report(self, folder: Folder, rows: Sequence[AnyRow], console: Console) -> None:
        from kreludomain.run.moments.plots import figures  # matplotlib: imports for a second, and only here

        moments = [row for row in rows if isinstance(row, MomentRow)]
        attacks = [row for row in rows if isinstance(row, AttackRow)]
        for table in screen_tables(moments, attacks):
            console.print(table, soft_wrap=isinstance(table, str))
        folder.write_all(csv_files(moments, attacks))
        folder.write_all(figures(folder.path, moments, attacks, self.shape))


def _require_relu(name: str, network: Network) -> None:
    relus = relu_layers(network)
    if name not in relus:
        raise InputError(f"'{name}' is not a ReLU layer; there are {', '.join(relus) or 'none'}")


def _check_attack(attack: AttackConfig, network: Network, shape: Shape) -> None:
    """Raises :class:`InputError` for an attack that would fail on every sample."""
    classes = network.size(network.output.name)
    if not relu_layers(network):
        raise InputError("the network has no ReLU layer")
    if attack.layer is not None:
        _require_relu(attack.layer, network)
    if classes < 2:
        raise InputError("the network has one output; an attack needs another class")
    if attack.target is not None and attack.target >= classes:
        raise InputError(f"target {attack.target}, the classes are 0 to {classes - 1}")
    if attack.pixels is not None and attack.pixels > shape[1] * shape[2]:
        raise InputError(f"{attack.pixels} pixels, the image has {shape[1] * shape[2]}")
    if attack.modes is not None:
        smooth_basis(shape, attack.modes)


def _noises(file: ConfigFile[MomentsConfig], shape: Shape, layout: str | None) -> dict[str, Tensor]:
    """Covariances of the input, ``(n, n)``, by their names in tables; that of a file is of inputs of a ``layout``."""
    noise = file.config.noise
    if noise is None:
        return {}
    if noise.covariance is None:
        return {f"{std:g}": pixel_covariance(shape, std, noise.correlation) for std in noise.std or ()}
    path = file.path(noise.covariance)
    covariance = read_array(path)
    with file.named(str(path)):
        gaussian(torch.zeros(math.prod(shape), dtype=torch.float64), covariance)
    if layout == "hwc":
        channels, height, width = shape
        order = torch.arange(math.prod(shape)).reshape(height, width, channels).permute(2, 0, 1).flatten()
        covariance = covariance[order][:, order]
    return {path.name: covariance}
