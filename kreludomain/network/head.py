"""What a file has after its logits, where a network is read up to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: ``"normalised"``: positive scores, the sigmoids of the logits, divided by their sum.
HeadKind = Literal["Softmax", "LogSoftmax", "ArgMax", "normalised"]


@dataclass(frozen=True)
class Head:
    """The last function of a file, which says nothing else about which output is largest than its inputs do.

    ``node`` is its name in the file. ``groups``: for each logit, in the order of the flattened output, the number of
    the group that it is normalised with (all 0, unless the output has more axes than the one of the classes).
    """

    kind: HeadKind
    node: str
    groups: tuple[int, ...]

    @property
    def note(self) -> str:
        """What was left out, in a sentence."""
        return (
            f"the last {self.kind} (node '{self.node}') is left out: it does not change which output is the largest; "
            "outputs and bounds are those of the logits"
        )
