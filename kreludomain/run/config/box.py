"""A box of inputs as the only region of a run, in place of regions around samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, cast

from pydantic import PlainValidator, SerializeAsAny
from torch import Tensor

from kreludomain.data import Sample
from kreludomain.data.keys import DataKeys
from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.options import Keys
from kreludomain.run.config.region import Clip, RegionConfig, RegionShape, Surroundings


class BoxConfig(Keys):
    """All inputs whose entries lie in ``box``, ``[low, high]``: numbers, or one an entry or channel each, or a file."""

    norm: ClassVar[str] = "inf"
    box: Clip

    def surroundings(
        self,
        path: Callable[[str], Path],
        network: Network,
        data: DataKeys | None = None,
        samples: Sequence[Sample] = (),
    ) -> Surroundings:
        """The box, as what is left of a larger region around its middle."""
        try:
            found = RegionShape(clip=self.box).surroundings(path, network)
        except InputError as error:
            raise InputError(str(error).replace("region.clip", "region.box")) from None
        low, high = cast(tuple[Tensor, Tensor], found.clip)
        if bool((low > high).any()):
            raise InputError("region.box: empty, an entry's low value is above its high one")
        return replace(found, epsilon=high - low)

    def middle(self, path: Callable[[str], Path], network: Network) -> Sample:
        """The middle of the box, as the only sample; it has no label."""
        found = self.surroundings(path, network)
        low, high = cast(tuple[Tensor, Tensor], found.clip)
        shape = network.input.shape
        return Sample(0, None, low.expand(shape) / 2 + high.expand(shape) / 2)

    @property
    def words(self) -> str:
        """The region in words."""
        return RegionConfig(epsilon=0, clip=self.box).words.partition(", ")[2]


def _region(value: Any) -> RegionConfig | BoxConfig:
    if isinstance(value, RegionConfig | BoxConfig):
        return value
    kind: type[RegionConfig | BoxConfig] = BoxConfig if isinstance(value, Mapping) and "box" in value else RegionConfig
    return kind.model_validate(value)


#: A key that holds regions around samples, or one box.
RegionItem = Annotated[RegionConfig | BoxConfig, SerializeAsAny(), PlainValidator(_region)]
