"""The samples that a configuration names."""

from __future__ import annotations

from kreludomain.data import Sample
from kreludomain.data.keys import DataKeys
from kreludomain.data.sources import read_samples
from kreludomain.network import Network
from kreludomain.run.config.files import ConfigFile, RunKeys


def load_samples(file: ConfigFile[RunKeys], data: DataKeys, network: Network) -> tuple[Sample, ...]:
    """The samples that ``data`` of a configuration names, as inputs of ``network``."""
    return read_samples(data, network, file.path)
