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

    def broken(self, x: Tensor, outputs: Tensor) -> Tensor:
        """Which points ``(N, *input_shape)``, with the network's outputs there, are counterexamples: ``(N,)``.

        An input stands for the point of the region that it represents (:meth:`Region.represented`): in a type of less
        precision than float64 it may be the nearest number to an interval that holds none.
        """
        inside = self.region.contains(self.region.represented(x))
        return inside & self.claim.broken(self.claim.margins(outputs.double()))


@dataclass(frozen=True, eq=False)
class Specification:
    """Every property's claim holds over its region. Without any, it holds, and ``note`` says why there is none.

    ``network`` is the one that the claims are about: the given network, or its :func:`with_input` where a claim
    relates outputs to inputs.
    """

    network: Network
    properties: tuple[Property, ...]
    note: str = ""

    def broken(self, x: Tensor, outputs: Tensor) -> Tensor:
        """Which points ``(N, *input_shape)``, with ``network``'s outputs there, are counterexamples to a property."""
        none = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        return torch.stack([none, *(prop.broken(x, outputs) for prop in self.properties)]).any(0)
