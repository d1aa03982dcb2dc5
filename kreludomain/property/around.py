"""The region around an input: within epsilon of it in a norm, clipped, with some entries fixed.

Epsilon and clip are numbers, fractions such as ``8/255``, or one number an entry or channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from kreludomain.errors import InputError, did_you_mean
from kreludomain.property.ball import Ball, L1Ball, L2Ball
from kreludomain.property.box import Box
from kreludomain.property.region import Region

#: A number, a fraction such as ``"8/255"``, or an array or (nested) list of these.
Numbers: TypeAlias = float | str | Tensor | np.ndarray | Sequence[Any]

#: The norms by their names here, and what else they are called, without "l" or "l_" in front and in small letters.
NORMS: dict[str, tuple[str, ...]] = {
    "inf": ("inf", "infinity", "\N{INFINITY}", "max"),
    "1": ("1", "1.0", "\N{SUBSCRIPT ONE}"),
    "2": ("2", "2.0", "\N{SUBSCRIPT TWO}", "euclidean"),
}
#: Relative rounding errors of an image that was normalised in float32, at most.
_ROUNDING = 1e-6
_BALLS: dict[str, type[Ball]] = {"1": L1Ball, "2": L2Ball}


def norm_name(norm: object) -> str:
    """A norm's name, ``inf``, ``1`` or ``2``, by any of its names: ``linf``, ``Inf``, ``l_2``, ``2.0``, ...

    Raises :class:`InputError` for another norm.
    """
    text = str(norm).strip().lower()
    short = text[1:].lstrip("_- ") if text.startswith(("l", "\N{SCRIPT SMALL L}")) else text
    for name, names in NORMS.items():
        if short in names:
            return name
    raise InputError(f"norm: {norm!r} is not one of {', '.join(NORMS)}{did_you_mean(norm, NORMS)}")


def number(value: object) -> float:
    """A number, or one as text: ``0.1``, or a fraction such as ``8/255``. Raises :class:`InputError`."""
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        above, slash, below = value.partition("/")
        try:
            return float(above) / float(below) if slash else float(value)
        except (ValueError, ZeroDivisionError):
            pass
    raise InputError(f"{value!r} is not a number or a fraction such as 8/255")


def numbers(values: object) -> Tensor:
    """Numbers in float64, of the shape that they are given in. Raises :class:`InputError`."""
    if hasattr(values, "to_numpy"):  # of pandas
        values = values.to_numpy()
    if isinstance(values, Tensor | np.ndarray):
        given = values if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
        if given.is_complex() or given.dtype == torch.bool:
            raise InputError(f"an array of {str(given.dtype).removeprefix('torch.')} is not one of numbers")
        return given.detach().to("cpu", torch.float64)
    if isinstance(values, Sequence) and not isinstance(values, str | bytes):
        parts = [numbers(value) for value in values]
        if len({part.shape for part in parts}) > 1:
            raise InputError("a list of lists of different lengths")
        return torch.stack(parts) if parts else torch.zeros(0, dtype=torch.float64)
    return torch.tensor(number(values), dtype=torch.float64)


def fitted(values: object, shape: Sequence[int], name: str) -> Tensor:
    """Numbers that broadcast to ``shape``, as they are. Raises :class:`InputError` that says which shapes would."""
    try:
        given = numbers(values)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    _require_fit(given, shape, name)
    return given


def _require_fit(given: Tensor, shape: Sequence[int], name: str) -> None:
    """Raises :class:`InputError` unless ``given`` broadcasts to ``shape``."""
    try:
        fits = torch.broadcast_shapes(given.shape, tuple(shape)) == torch.Size(shape)
    except RuntimeError:
        fits = False
    if fits:
        return
    if given.dim() == 1 and len(shape) == 1:
        raise InputError(f"{name}: {len(given)} values, the input has {shape[0]}; give one, or {shape[0]}")
    ways = ["one number", f"shape {tuple(shape)}"]
    if given.dim() == 1:
        axes = [axis for axis, size in enumerate(shape) if size == len(given)]
        ways = [
            f"shape {(len(given), *[1] * (len(shape) - axis - 1))} for one each along axis {axis}" for axis in axes
        ] or ways
    raise InputError(
        f"{name}: shape {tuple(given.shape)} does not fit an input of {tuple(shape)}; give {' or '.join(ways)}"
    )


@dataclass(frozen=True, eq=False)
class Normalisation:
    """What a network's inputs have been put through: ``(image - mean) / std``.

    ``mean`` and ``std`` broadcast to an input: for one a channel of an image ``(3, height, width)``, of shape
    ``(3, 1, 1)``. Raises :class:`InputError` for a ``std`` that is not above zero.
    """

    mean: Tensor
    std: Tensor

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            try:
                object.__setattr__(self, name, numbers(getattr(self, name)))
            except InputError as error:
                raise InputError(f"{name}: {error}") from None
        if not bool(torch.isfinite(self.mean).all()):
            raise InputError("mean: is not a finite number everywhere")
        if not bool(((self.std > 0) & torch.isfinite(self.std)).all()):
            raise InputError("std: is not a number above 0 everywhere")

    @classmethod
    def none(cls) -> Normalisation:
        """Inputs as they are."""
        return cls(torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64))

    def __call__(self, image: Numbers) -> Tensor:
        """An image as the network's input."""
        return (numbers(image) - self.mean) / self.std

    def undone(self, x: Numbers) -> Tensor:
        """The network's input as the image that it is of."""
        return numbers(x) * self.std + self.mean

    def require_fit(self, shape: Sequence[int]) -> None:
        """Raises :class:`InputError` unless it broadcasts to inputs of ``shape``."""
        _require_fit(self.mean, shape, "mean")
        _require_fit(self.std, shape, "std")


def ball(
    x: Numbers,
    epsilon: Numbers,
    norm: str | float = "inf",
    clip: tuple[Numbers, Numbers] | None = None,
    *,
    fixed: Sequence[int] | Tensor | np.ndarray | None = None,
    mask: Tensor | np.ndarray | Sequence[Any] | None = None,
    normalise: Normalisation | None = None,
) -> Region:
    """All points within ``epsilon`` of ``x`` in the l_inf, l_1 or l_2 norm, clipped to ``clip = (low, high)``.

    ``x`` is ``(B, *input_shape)``, or ``input_shape`` for one. ``epsilon``, ``low`` and ``high`` are numbers, fractions
    such as ``"8/255"``, or arrays or lists that broadcast to ``x`` (one for each of three channels: shape
    ``(3, 1, 1)``). An epsilon that differs by entry is how far each goes alone: the region is ``||(y - x) / epsilon||_p
    <= 1``. ``norm`` is ``inf``, ``1`` or ``2``, or another name of one (``"linf"``, ``"l2"``).

    Some entries can keep their value exactly, whatever ``clip`` says: those that ``fixed`` names (positions along the
    last axis, or booleans that broadcast to ``x``) and those where ``mask`` (booleans or 0 and 1, which broadcast to
    ``x``) is false: a mask is true where an input may change.

    ``normalise``: ``x``, ``epsilon`` and ``clip`` are in the units of the image; the region is of the network's inputs,
    ``(image - mean) / std``.

    Raises :class:`InputError` for an epsilon below zero, another norm, shapes that do not fit ``x``, and an ``x`` that
    a region is clipped away from (an l_1 or l_2 ball if ``x`` lies outside ``clip`` at all).
    """
    try:
        middle = numbers(x)
    except InputError as error:
        raise InputError(f"region: x: {error}") from None
    try:
        name, shape = norm_name(norm), middle.shape
        radius, (low, high) = _radius(epsilon, shape), _sides(clip, shape)
        if normalise is not None:
            if not isinstance(normalise, Normalisation):
                raise InputError(f"normalise: kreludomain.Normalisation(mean, std) is expected, not {normalise!r}")
            normalise.require_fit(shape)
            middle, radius, low, high = normalise(middle), radius / normalise.std, normalise(low), normalise(high)
        keeps = _kept(fixed, mask, shape)
        radius = torch.where(keeps, 0.0, radius).expand(shape)
        low, high = torch.where(keeps, -torch.inf, low), torch.where(keeps, torch.inf, high)
        return _clipped(name, middle, radius, low.expand(shape), high.expand(shape))
    except InputError as error:
        raise InputError(f"region: {error}") from None


def _radius(epsilon: Numbers, shape: Sequence[int]) -> Tensor:
    radius = fitted(epsilon, shape, "epsilon")
    wrong = ~((radius >= 0) & torch.isfinite(radius))
    if wrong.any():
        raise InputError(f"epsilon {float(radius[wrong].flatten()[0]):g} is not a number from 0 up")
    return radius


def _sides(clip: tuple[Numbers, Numbers] | None, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The least and the largest value of each entry, infinite where it has none."""
    if clip is None:
        return torch.tensor(-torch.inf, dtype=torch.float64), torch.tensor(torch.inf, dtype=torch.float64)
    if isinstance(clip, str) or not hasattr(clip, "__len__") or len(clip) != 2:
        raise InputError(f"clip {clip!r}: a low and a high value are expected")
    low, high = fitted(clip[0], shape, "clip[0]"), fitted(clip[1], shape, "clip[1]")
    empty = ~(low <= high)
    if empty.any():
        at = int(empty.flatten().nonzero()[0])
        pair = [float(side.expand(empty.shape).flatten()[at]) for side in (low, high)]
        raise InputError(f"clip [{pair[0]:g}, {pair[1]:g}] is empty: a low and a high value are expected")
    return low, high


def _kept(fixed: object, mask: object, shape: Sequence[int]) -> Tensor:
    """Which entries keep their value: booleans of ``shape``."""
    kept = torch.zeros(tuple(shape), dtype=torch.bool)
    if fixed is not None:
        given = _entries(fixed, "fixed: neither a list of positions nor booleans")
        if given.dtype == torch.bool:
            _require_fit(given, shape, "fixed")
            kept = kept | given
        else:
            kept[..., _positions(given, shape)] = True
    if mask is not None:
        wrong = "mask: has entries other than true and false, or 1 and 0"
        given = _entries(mask, wrong)
        if not bool(((given == 0) | (given == 1)).all()):
            raise InputError(wrong)
        _require_fit(given, shape, "mask")
        kept = kept | (given == 0)
    return kept


def _entries(given: Any, wrong: str) -> Tensor:
    """A tensor of what ``torch`` takes for one; for anything else :class:`InputError` with the text ``wrong``."""
    try:
        return given.cpu() if isinstance(given, Tensor) else torch.from_numpy(np.array(given))
    except (TypeError, ValueError, RuntimeError):
        raise InputError(wrong) from None


def _positions(given: Tensor, shape: Sequence[int]) -> Tensor:
    """Positions along the last axis."""
    if given.numel() == 0:
        return given.long()
    if given.dim() != 1 or given.is_floating_point() or given.is_complex():
        raise InputError("fixed: neither a list of positions nor booleans")
    outside = given[(given < 0) | (given >= shape[-1])]
    if len(outside):
        raise InputError(f"fixed: there is no entry {int(outside[0])}; they are 0 to {shape[-1] - 1}")
    return given.long()


def _clipped(norm: str, middle: Tensor, radius: Tensor, low: Tensor, high: Tensor) -> Region:
    """The ball between ``low`` and ``high``; all of one shape.

    Where the middle lies outside by no more than the rounding of float32, in which images are normalised, the side is
    moved out to it.
    """
    sizes = (torch.where(torch.isfinite(side), side.abs(), 0.0) for side in (low, high))
    rounding = _ROUNDING * torch.maximum(middle.abs(), torch.maximum(*sizes))
    low = torch.where((middle < low) & (middle >= low - rounding), middle, low)
    high = torch.where((middle > high) & (middle <= high + rounding), middle, high)
    lower, upper = torch.maximum(middle - radius, low), torch.minimum(middle + radius, high)
    outside = lower > upper if norm == "inf" else (middle < low) | (middle > high)
    if outside.any():
        at = int(outside.flatten().nonzero()[0])
        value, least, most = (float(side.flatten()[at]) for side in (middle, low, high))
        far = "further than epsilon outside" if norm == "inf" else "outside"
        raise InputError(
            f"the middle of an l_{norm} ball lies {far} clip [{least:g}, {most:g}]: it is {value:g} at entry {at}"
        )
    return Box(lower, upper) if norm == "inf" else _BALLS[norm](lower, upper, middle, radius)


def box(lower: Numbers, upper: Numbers) -> Box:
    """The box ``lower <= x <= upper``; tensors ``(B, *input_shape)``, or ``input_shape`` for one.

    Raises :class:`InputError` if it is empty or not finite.
    """
    try:
        low, high = numbers(lower), numbers(upper)
    except InputError as error:
        raise InputError(f"region: {error}") from None
    return Box(low, high)
