"""The keys of ``region``, and the regions around the samples of a network that they make.

Epsilon and clip are in the units of the data: where the data is normalised (``normalise`` in ``data``), in those of the
image, before that. A list has a number an entry or a channel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import PlainValidator, model_validator
from torch import Tensor

from kreludomain.data import Entries, Sample
from kreludomain.data.entries import normalisation, read_numbers, read_values
from kreludomain.data.keys import DataKeys
from kreludomain.data.values import AnyValues, FileKeys, checked_values, words_of
from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.options import FilePath, Keys, shown, wrong
from kreludomain.property import Normalisation, Region, ball
from kreludomain.property.around import number
from kreludomain.property.names import NO_NAMES
from kreludomain.run.config.files import Norm

_WITHIN = {
    "inf": "each entry off by at most",
    "1": "within l\N{SUBSCRIPT ONE} distance",
    "2": "within Euclidean distance",
}


def _epsilon(value: Any) -> AnyValues:
    if isinstance(value, Mapping) and "column" in value:
        raise wrong({(): "a column with each sample's epsilon is named in data: epsilon: COLUMN"})
    return checked_values(value, 0.0)


def _epsilons(value: Any) -> tuple[float | str, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise wrong({(): f"input should be a list of numbers, not {shown(value)}"})
    found = [checked_values(each, 0.0, (position,)) for position, each in enumerate(value)]
    for position, each in enumerate(found):
        if not isinstance(each, float | str):
            raise wrong({(position,): "should be one number; one for each entry is for epsilon"})
        if number(each) in [number(other) for other in value[:position]]:
            raise wrong({(position,): f"{each} is there twice"})
    return tuple(each for each in found if isinstance(each, float | str))


def _clip(value: Any) -> tuple[AnyValues, AnyValues] | FileKeys:
    if isinstance(value, Mapping | FileKeys):
        return FileKeys.model_validate(value)
    if not isinstance(value, list | tuple):
        raise wrong({(): f"input should be a list, not {shown(value)}"})
    if len(value) != 2:
        raise wrong({(): f"should be [low, high], a number or a list each, not {len(value)} items"})
    low, high = (checked_values(side, path=(position,)) for position, side in enumerate(value))
    if isinstance(low, float | str) and isinstance(high, float | str) and number(low) > number(high):
        raise wrong({(): f"[{words_of(low)}, {words_of(high)}] is empty"})
    return low, high


def _fixed(value: Any) -> tuple[int | str, ...]:
    if not isinstance(value, list | tuple):
        raise wrong({(): f"input should be a list of features, by name or number, not {shown(value)}"})
    for position, column in enumerate(value):
        if (
            isinstance(column, bool)
            or not isinstance(column, int | str)
            or column == ""
            or (isinstance(column, int) and column < 0)
        ):
            raise wrong({(position,): f"input should be a feature's name or its number from 0, not {shown(column)}"})
    return tuple(value)


Clip = Annotated[Any, PlainValidator(_clip)]


class RegionShape(Keys):
    """What regions around samples have in common, however large they are.

    ``clip``: the least and the largest value of an entry. ``fixed``: features that keep their value, by name or number
    from 0. ``mask``: a file with 1 where an input may change and 0 where it may not.
    """

    norm: Norm = "inf"
    clip: Clip | None = None
    fixed: Annotated[Any, PlainValidator(_fixed)] | None = None
    mask: FilePath | None = None

    @model_validator(mode="before")
    @classmethod
    def _elsewhere(cls, value: Any) -> Any:
        misplaced = {"normalise", "normalize", "mean", "std"} & (value.keys() if isinstance(value, Mapping) else set())
        if misplaced:
            key, where = min(misplaced), "data: {..., normalise: {mean, std}}"
            raise wrong({(key,): f"stands in data, for the values, epsilon and clip alike: {where}"})
        return value

    @classmethod
    def key_order(cls) -> tuple[str, ...]:
        order = ("norm", "epsilon", "epsilons", "clip", "fixed", "mask")
        return tuple(key for key in order if key in cls.model_fields)

    def surroundings(
        self,
        path: Callable[[str], Path],
        network: Network,
        data: DataKeys | None = None,
        samples: Sequence[Sample] = (),
    ) -> Surroundings:
        """The regions around ``samples`` of ``data``, in the units of the network's inputs.

        ``path`` finds the files that are named here. Raises :class:`InputError` for what does not fit the network.
        """
        names = samples[0].names if samples else NO_NAMES
        entries = Entries(network, None if data is None else data.layout, names)
        normalise = None if data is None else normalisation(data, network, path)
        clip = self._sides(path, entries)
        if clip is not None and normalise is not None:
            clip = normalise(clip[0]), normalise(clip[1])
        kept = torch.zeros((), dtype=torch.bool)
        if self.fixed is not None:
            kept = kept | entries.chosen(self.fixed)
        if self.mask is not None:
            kept = kept | ~_mask(path(self.mask), entries)
        return Surroundings(
            self.norm, entries, (None,), None, normalise or Normalisation.none(), clip, kept, _hint(data)
        )

    def _sides(self, path: Callable[[str], Path], entries: Entries) -> tuple[Tensor, Tensor] | None:
        if self.clip is None:
            return None
        sides = self.clip
        if isinstance(sides, FileKeys):
            both = read_numbers(path(sides.file))
            if both.dim() == 2 and len(both) != 2:
                both = both.T
            if not both.dim() or len(both) != 2:
                where = f"region.clip: {path(sides.file)}"
                raise InputError(f"{where}: two rows or columns are expected, the low and the high values")
            low, high = both
        else:
            low, high = (read_values(side, path) for side in sides)
        return entries.matched(low, "region.clip[0]"), entries.matched(high, "region.clip[1]")


class RegionConfig(RegionShape):
    """All inputs within ``epsilon`` of a sample, each entry within ``clip``.

    ``epsilon``: a number, a fraction, one an entry or channel, a file, or a column of the data. ``epsilons``: several
    numbers, for a row each.
    """

    epsilon: Annotated[Any, PlainValidator(_epsilon)] | None = None
    epsilons: Annotated[Any, PlainValidator(_epsilons)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> RegionConfig:
        if self.epsilon is not None and self.epsilons is not None:
            raise wrong({("epsilons",): "give epsilon or epsilons, not both"})
        return self

    @property
    def number(self) -> float | None:
        """The epsilon if it is one number."""
        return number(self.epsilon) if isinstance(self.epsilon, float | str) else None

    def surroundings(
        self,
        path: Callable[[str], Path],
        network: Network,
        data: DataKeys | None = None,
        samples: Sequence[Sample] = (),
    ) -> Surroundings:
        found = super().surroundings(path, network, data, samples)
        given = self.epsilon is not None or self.epsilons is not None
        if given and getattr(data, "epsilon", None) is not None:
            raise InputError("region.epsilon: the data has one for each sample (data.epsilon); give one of the two")
        if self.epsilons is not None:
            return replace(found, epsilons=tuple(map(number, self.epsilons)))
        if self.epsilon is None:
            if not any(sample.epsilon is not None for sample in samples):
                raise InputError(
                    "region.epsilon: missing; a column with each sample's is named in data: epsilon: COLUMN"
                )
            return found
        epsilon = found.entries.matched(read_values(self.epsilon, path), "region.epsilon")
        if not bool(((epsilon >= 0) & torch.isfinite(epsilon)).all()):
            raise InputError("region.epsilon: has an entry that is not a number from 0 up")
        return replace(found, epsilon=epsilon)

    def require_one(self, what: str) -> None:
        """Raises a validation error for several epsilons, which ``what`` does not take."""
        if self.epsilons is not None:
            raise wrong({("region", "epsilons"): f"{what} takes one epsilon; certify and compare take several"})

    @property
    def words(self) -> str:
        """The region in words."""
        epsilon = self.epsilon if self.epsilons is None else self.epsilons
        said = {
            "inf": "each entry off by at most",
            "1": "within l\N{SUBSCRIPT ONE} distance",
            "2": "within Euclidean distance",
        }
        text = f"{said[self.norm]} {'its own epsilon' if epsilon is None else words_of(epsilon)}"
        if self.clip is not None:
            clip = f"[{', '.join(map(words_of, self.clip))}]" if isinstance(self.clip, tuple) else words_of(self.clip)
            text += f", entries within {clip}"
        if self.fixed is not None:
            text += f", fixed: {', '.join(map(str, self.fixed))}"
        return text if self.mask is None else f"{text}, only where {Path(self.mask).name} is 1"


@dataclass(frozen=True, eq=False)
class Surroundings:
    """The regions around the samples of a network.

    ``epsilons``: those that are asked about, in the units of the data; ``None`` is the configured ``epsilon``, or where
    that is ``None`` too, each sample's own. ``normalise``: from the units of the data to those of the network's inputs.
    ``clip`` and ``kept`` (which entries keep their value) are about the network's inputs. All broadcast to an input.
    """

    norm: str
    entries: Entries
    epsilons: tuple[float | None, ...]
    epsilon: Tensor | None
    normalise: Normalisation
    clip: tuple[Tensor, Tensor] | None
    kept: Tensor
    hint: str = ""

    def region(self, sample: Sample, epsilon: Tensor | float | None = None) -> Region:
        """The region around a sample, or the one of another ``epsilon``, in the units of the data.

        Raises :class:`InputError` where there is none.
        """
        within: Tensor | float | None = epsilon
        if within is None:
            within = self.epsilon
        if within is None:
            if sample.epsilon is None:
                raise InputError("epsilon: the data has none for this sample")
            within = self.entries.matched(sample.epsilon, "epsilon")
        try:
            return ball(sample.x, within / self.normalise.std, self.norm, self.clip, fixed=self.kept)
        except InputError as error:
            raise InputError(f"{error}{self.hint if 'clip' in str(error) else ''}") from None

    @property
    def clip_in_data(self) -> tuple[float, float] | None:
        """The least and the largest value that any entry may have, in the units of the data."""
        if self.clip is None:
            return None
        low, high = map(self.normalise.undone, self.clip)
        return float(low.min()), float(high.max())

    def contents(self) -> dict[str, str]:
        """The hash of its numbers, which may be those of files; nothing where there is but one number."""
        tensors = (self.epsilon, self.normalise.mean, self.normalise.std, *(self.clip or ()), self.kept)
        if not any(tensor is not None and tensor.dim() for tensor in tensors):
            return {}
        found = hashlib.sha256()
        for tensor in tensors:
            values = torch.zeros(0, dtype=torch.float64) if tensor is None else tensor
            found.update(f"{tuple(values.shape)}".encode() + values.contiguous().numpy().tobytes())
        return {"region": found.hexdigest()}


def _mask(path: Path, entries: Entries) -> Tensor:
    given = read_numbers(path)
    if not bool(((given == 0) | (given == 1)).all()):
        raise InputError(f"region.mask: {path}: has numbers other than 0 and 1")
    return entries.matched(given, f"region.mask: {path}") == 1


def _hint(data: DataKeys | None) -> str:
    """What is probably meant where samples lie outside the clip."""
    if data is None or data.normalise is None:
        return "; epsilon and clip are in the units of the data"
    units = "; in the units of the network, after normalise"
    if data.normalise.applied:
        return units
    return f"{units} (if the data are normalised already: normalise: {{..., applied: true}})"
