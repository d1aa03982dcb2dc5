"""The keys of a ``kreludomain moments`` configuration."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Strict, model_validator

from kreludomain.options import FilePath, Keys, Text, wrong
from kreludomain.run.config.files import Clip, Data, RunKeys, require_distinct
from kreludomain.run.config.networks import NetworkItem


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


NotNegative = Annotated[float, Field(ge=0)]
Several = Annotated[tuple[NotNegative, ...], Strict(False), BeforeValidator(_listed), Field(min_length=1)]


class NoiseConfig(Keys):
    """Zero-mean noise on the input: white or smooth noise of each ``std``, or a covariance from a ``.npy`` file.

    ``correlation``: the length in pixels over which noise is correlated (see ``pixel_covariance``); 0 is white noise.
    """

    std: Several | None = None
    correlation: float = Field(0.0, ge=0)
    covariance: FilePath | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> NoiseConfig:
        if (self.std is None) == (self.covariance is None):
            raise wrong({(): "give std or covariance"})
        if self.covariance is not None and self.correlation:
            raise wrong({("correlation",): "goes with std; a covariance has its own"})
        return self


class AttackConfig(Keys):
    """A Gaussian attack: ``sparse`` noise on some ``pixels``, or ``smooth`` noise of ``modes x modes`` frequencies.

    ``target``: the class whose expected score is to exceed all others; any but the label where it is left out. The
    other keys are those of ``GaussianAttackOptions``.
    """

    kind: Literal["sparse", "smooth"]
    label: Text | None = None
    pixels: int | None = Field(None, ge=1)
    modes: int | None = Field(None, ge=1)
    target: int | None = Field(None, ge=0)
    std: float = Field(0.1, ge=0)
    margin: float = Field(1.0, ge=0)
    layer: Text | None = None
    clip: Clip | None = None
    steps: int = Field(200, ge=1)

    @model_validator(mode="after")
    def _fits_kind(self) -> AttackConfig:
        wanted, other = ("pixels", "modes") if self.kind == "sparse" else ("modes", "pixels")
        if getattr(self, wanted) is None:
            raise wrong({(wanted,): f"missing; a {self.kind} attack needs it"})
        if getattr(self, other) is not None:
            raise wrong({(other,): f"not a key of a {self.kind} attack"})
        return self

    @property
    def name(self) -> str:
        """The label, or a name made of kind, size and target."""
        if self.label is not None:
            return self.label
        size = f"{self.pixels} pixels" if self.kind == "sparse" else f"{self.modes}x{self.modes} modes"
        return f"{self.kind}, {size}, target {'any' if self.target is None else self.target}"


class MomentsConfig(RunKeys):
    """A configuration file.

    ``samples``: draws of Monte Carlo, from ``seed``. ``layers``: the ReLU layers to keep, by name, or all.
    ``displacements``: where to linearise, in draws of the noise away from the mean (0: at the mean). ``image``: height
    and width of the input, where its shape does not say. ``timeout_s`` is for one Monte Carlo run or one attack.
    """

    network: NetworkItem
    data: Data
    noise: NoiseConfig | None = None
    samples: int = Field(100_000, ge=2)
    seed: int = Field(0, ge=0)
    layers: Literal["all"] | Annotated[tuple[Text, ...], Strict(False)] = "all"
    displacements: Several = (0.0,)
    attacks: Annotated[tuple[AttackConfig, ...], Strict(False)] = ()
    image: Annotated[tuple[int, int], Strict(False)] | None = None

    @model_validator(mode="after")
    def _something_to_do(self) -> MomentsConfig:
        if self.noise is None and not self.attacks:
            raise wrong({(): "give noise, attacks or both"})
        require_distinct([attack.name for attack in self.attacks], "attacks")
        return self
