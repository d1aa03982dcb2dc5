"""The rows of a run of ``kreludomain moments``: a sample and noise each, or a sample and attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kreludomain.run.engine.study import Key, Row

#: Layers of the estimates that keep no ReLU layer, and every one.
LINEAR, EVERY = "none (linear)", "every layer"


@dataclass(frozen=True)
class Estimate:
    """Estimated moments next to Monte Carlo; errors as in ``Agreement``, ``None`` where they are not finite.

    ``layer`` is the ReLU layer that is kept, ``rule`` how its covariance is computed, ``displacement`` how many draws
    of the noise away from the mean the network is linearised. ``cheap_difference``: the relative difference of the
    covariance from that by the exact rule.
    """

    layer: str
    rule: str
    displacement: float
    mean: float | None
    std: float | None
    covariance: float | None
    max_z_score: float | None
    cheap_difference: float | None
    seconds: float


@dataclass(frozen=True)
class MomentRow(Row):
    """All estimates of one sample's moments with one noise.

    ``samples`` were drawn by Monte Carlo, whose own errors are ``mean_sampling_error`` and
    ``covariance_sampling_error`` (as in ``Agreement``). ``arrays``: a file in the folder with the moments
    themselves, of the row that the figure shows. ``reason``: why there are no estimates.
    """

    index: int
    label: int
    noise: str
    samples: int = 0
    mean_sampling_error: float | None = None
    covariance_sampling_error: float | None = None
    estimates: tuple[Estimate, ...] = ()
    arrays: str | None = None
    seconds: float = 0.0
    reason: str = ""
    kind: Literal["moments"] = "moments"

    @property
    def key(self) -> Key:
        return self.kind, self.index, self.noise

    @property
    def outcome(self) -> str:
        return "moments" if self.estimates else "failed"


@dataclass(frozen=True)
class AttackRow(Row):
    """A sample and an attack. Scores are the target's minus the largest other one (without a target: the label's).

    ``expected`` is by linearisation, ``sampled`` by Monte Carlo with its standard ``error``. ``size`` is the l_2 norm
    of the noise's mean, ``largest`` its largest entry, ``std`` the root mean square of the standard deviations of the
    entries with noise. ``target_share`` and ``label_share``: the shares of draws that are classified so;
    ``clipped_share``: as the target, with every entry clamped to the clip; ``control_share``: as the label, with a mean
    of the same size in a random direction within the same pixels or frequencies. ``arrays``: a file in the folder with
    the noise and all scores. ``reason``: why the attack did not succeed, or was not tried.
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
    arrays: str | None = None
    seconds: float = 0.0
    reason: str = ""
    kind: Literal["attack"] = "attack"

    @property
    def key(self) -> Key:
        return self.kind, self.index, self.attack

    @property
    def outcome(self) -> str:
        if self.sampled is None:
            return "not attacked"
        return "successful attacks" if self.success else "unsuccessful attacks"


AnyRow = MomentRow | AttackRow
