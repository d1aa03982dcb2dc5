"""A specification: claims over regions of one network, all of which are to hold."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.network import Network
from kreludomain.property.claim import Claim
from kreludomain.property.region import Region


@dataclass(frozen=True, eq=False)
class Property:
    """A claim over a region (a batch of one)."""

    region: Region
    claim: Claim


@dataclass(frozen=True, eq=False)
class Specification:
    """Every property's claim holds over its region.

    ``network`` is the one that the claims are about: the given network, or its :func:`with_input` where a claim
    relates outputs to inputs.
    """

    network: Network
    properties: tuple[Property, ...]

    def broken(self, x: Tensor, outputs: Tensor) -> Tensor:
        """Which points ``(N, *input_shape)``, with ``network``'s outputs there, are counterexamples: ``(N,)``."""
        outputs = outputs.double()
        parts = [prop.region.contains(x) & prop.claim.broken(prop.claim.margins(outputs)) for prop in self.properties]
        return torch.stack(parts).any(0)
