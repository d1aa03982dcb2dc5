"""Numbers for the entries of an input: one for all, one a channel, one a row and column, or one an entry."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kreludomain.data.arrays import read_array
from kreludomain.data.csv_file import csv_rows
from kreludomain.data.keys import DataKeys
from kreludomain.data.layout import DataLayout, arranged
from kreludomain.data.values import AnyValues, FileKeys
from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.property import Normalisation
from kreludomain.property.around import numbers
from kreludomain.property.names import NO_NAMES, Names

#: Flat inputs of this many channels and at least so many rows and columns are taken for images, as in reports.
_CHANNELS, _LEAST_SIDE = 3, 7


@dataclass(frozen=True, eq=False)
class Entries:
    """The entries of a network's input in the order of the data: its ``layout``, and the ``names`` of its features."""

    network: Network
    layout: DataLayout | None = None
    names: Names = NO_NAMES

    @property
    def count(self) -> int:
        return math.prod(self.network.input.shape)

    def matched(self, values: Tensor, key: str) -> Tensor:
        """Values that broadcast to an input: from one, one a channel, one a row and column, or one an entry.

        Raises :class:`InputError`, which begins with ``key`` and says how many would fit.
        """
        shape = self.network.input.shape
        if values.numel() == 1:
            return values.reshape(())
        if tuple(values.shape) == shape:
            return values
        if values.numel() == self.count:
            return self._arranged(values, key)
        image = self._image()
        if image is not None:
            layout, sizes = image
            channels, side = (sizes[0], sizes[1:]) if layout == "chw" else (sizes[-1], sizes[:-1])
            if tuple(values.shape) == (channels,):
                return _along(values, sizes, layout).expand(sizes).reshape(shape)
            if tuple(values.shape) == side:
                return (values[None] if layout == "chw" else values[..., None]).expand(sizes).reshape(shape)
        given = f"{len(values)} values" if values.dim() == 1 else f"values of shape {tuple(values.shape)}"
        raise InputError(
            f"{key}: {given}, the network's input is {' x '.join(map(str, shape))}; give {self._ways(image)}"
        )

    def chosen(self, columns: Sequence[int | str]) -> Tensor:
        """Which entries the columns are, booleans of the input's shape. Raises :class:`InputError` for another one."""
        found = torch.zeros(self.count, dtype=torch.bool)
        for position, column in enumerate(columns):
            found[self._position(column, f"region.fixed[{position}]")] = True
        return self._arranged(found.double(), "region.fixed") == 1

    def _arranged(self, values: Tensor, key: str) -> Tensor:
        """A value an entry, in the order of the data, as an input has them."""
        rows = arranged(values.reshape(1, *values.shape).numpy(), self.network, self.layout, key)
        return torch.from_numpy(rows[0])

    def _position(self, column: int | str, key: str) -> int:
        try:
            position = self.names.feature(column)
        except InputError as error:
            raise InputError(f"{key}: {error}") from None
        if position < self.count:
            return position
        raise InputError(f"{key}: there is no feature {position}; they are 0 to {self.count - 1}")

    def _image(self) -> tuple[str, tuple[int, ...]] | None:
        """How the input lies as an image, and its three sizes; ``None`` if it is none."""
        shape = self.network.input.shape
        if len(shape) == 3:
            layout = self.network.input_layout
            return None if layout is None else (layout, shape)
        if len(shape) == 2:  # a series of channels
            return "chw", shape
        side = math.isqrt(self.count // _CHANNELS)
        if len(shape) != 1 or side < _LEAST_SIDE or side * side * _CHANNELS != self.count:
            return None
        return ("hwc", (side, side, _CHANNELS)) if self.layout == "hwc" else ("chw", (_CHANNELS, side, side))

    def _ways(self, image: tuple[str, tuple[int, ...]] | None) -> str:
        """How many values fit, in words."""
        ways = ["1"]
        if image is not None:
            layout, sizes = image
            ways.append(f"{sizes[0] if layout == 'chw' else sizes[-1]} (one a channel)")
        return f"{', '.join(ways)} or {self.count}"


def _along(values: Tensor, sizes: Sequence[int], layout: str) -> Tensor:
    """Values of the channels, to be broadcast over rows and columns."""
    return values.reshape(-1, *[1] * (len(sizes) - 1)) if layout == "chw" else values


def read_values(values: AnyValues, path: Callable[[str], Path] = Path) -> Tensor:
    """Values as a tensor; ``path`` finds the file. Raises :class:`InputError` for a file that has none."""
    return read_numbers(path(values.file)) if isinstance(values, FileKeys) else numbers(values)


def read_numbers(path: Path) -> Tensor:
    """The numbers of a ``.npy`` file, or of a ``.csv`` file without a header, a fraction such as ``8/255`` among them.

    A single row or column is a list. Raises :class:`InputError` that names the file.
    """
    if path.suffix.lower() == ".npy":
        return read_array(path)
    if path.suffix.lower() != ".csv":
        raise InputError(f"{path}: a .npy or .csv file is expected")
    rows: list[Tensor] = []
    for line, cells in csv_rows(path):
        try:
            rows.append(numbers([cell.strip() for cell in cells]))
        except InputError as error:
            raise InputError(f"{path}: line {line}: {error}") from None
        if len(rows[0]) != len(cells):
            raise InputError(f"{path}: line {line}: {len(cells)} values, the first line has {len(rows[0])}")
    if not rows:
        raise InputError(f"{path}: empty")
    table = torch.stack(rows)
    return table.flatten() if 1 in table.shape else table


def normalisation(keys: DataKeys, network: Network, path: Callable[[str], Path] = Path) -> Normalisation | None:
    """What the inputs of a network have been put through, for data of these keys; ``None`` if they have not.

    Raises :class:`InputError` for numbers that do not fit the network's input.
    """
    if keys.normalise is None:
        return None
    entries, where = Entries(network, keys.layout), f"{keys.source}: normalise"
    mean, std = (
        entries.matched(read_values(getattr(keys.normalise, key), path), f"{where}.{key}") for key in ("mean", "std")
    )
    try:
        return Normalisation(mean, std)
    except InputError as error:
        raise InputError(f"{where}.{error}") from None
