"""The network of a configuration: a file, and which of its outputs is meant; or two, which are compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BeforeValidator, Strict, WrapSerializer

from kreludomain.network import Network, difference, load
from kreludomain.options import FilePath, Keys, Text
from kreludomain.run.config.files import ConfigFile, RunKeys


class NetworkFile(Keys):
    """An ONNX file. ``output``: the name of the output that is meant, where it has several."""

    file: FilePath
    output: Text | None = None

    @property
    def name(self) -> str:
        return Path(self.file).stem

    @property
    def words(self) -> str:
        """The file's name, and the output."""
        return Path(self.file).name + ("" if self.output is None else f", output {self.output}")

    def load(self, file: ConfigFile[RunKeys]) -> Network:
        """The network. Raises :class:`InputError` for a file that cannot be read."""
        return load(file.path(self.file), self.output, announce=False)


def _keys(value: Any) -> Any:
    return {"file": value} if isinstance(value, str) else value


def _short(value: NetworkFile, serialise: Callable[[NetworkFile], dict[str, Any]]) -> str | dict[str, Any]:
    """A file's name alone, where nothing else is given."""
    given = {key: item for key, item in serialise(value).items() if item is not None}
    name: str = given["file"]
    return name if len(given) == 1 else given


#: ``net.onnx``, or ``{file: net.onnx, output: logits}``.
NetworkItem = Annotated[NetworkFile, BeforeValidator(_keys), WrapSerializer(_short)]

#: Two networks that are compared.
NetworkPair = Annotated[tuple[NetworkItem, NetworkItem], Strict(False)]


def load_difference(file: ConfigFile[RunKeys], networks: tuple[NetworkFile, NetworkFile]) -> Network:
    """The difference of the two networks under the key ``networks``. Raises :class:`InputError`."""
    first, second = (network.load(file) for network in networks)
    with file.named("networks"):
        return difference(first, second)


#: An option of command lines that name a network's file.
OutputName = Annotated[
    str | None, typer.Option(metavar="NAME", help="The output that is meant, where the network has several.")
]
