"""What a run is of, written into its folder at the start: what a resumed run is held against, and a report shows."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kreludomain.errors import InputError
from kreludomain.network import Network, to_onnx
from kreludomain.run.certify.config import Config
from kreludomain.run.config.data import Sample
from kreludomain.run.engine.folder import RECORD, versions
from kreludomain.run.engine.machine import describe

LOG = logging.getLogger(__name__)

#: Keys that decide no row: where things are (their contents are hashed) and where they are computed.
ELSEWHERE: dict[str, Any] = dict.fromkeys(("network", "output", "versions", "workers", "threads", "cluster"), True)
ELSEWHERE["data"] = {"csv"}


@dataclass(frozen=True)
class Record:
    """The configuration's keys that decide rows, and the contents of the network and of the samples (SHA-256)."""

    configuration: Mapping[str, Any]
    network: str
    data: str
    machine: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=versions)

    @classmethod
    def of(cls, config: Config, network: Network, samples: Iterable[Sample], **machine: Any) -> Record:
        """``machine``: more about where it runs."""
        content = network.model if network.model is not None else to_onnx(network)
        return cls(
            json.loads(config.model_dump_json(exclude=ELSEWHERE)),
            hashlib.sha256(content).hexdigest(),
            _hash(samples),
            describe() | machine,
        )

    @classmethod
    def read(cls, folder: Path) -> Record:
        """The record of a folder. Raises :class:`InputError` if it has none."""
        path = folder / RECORD
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return cls(**values)
        except (FileNotFoundError, ValueError, TypeError):
            raise InputError(f"{path}: not there, or not written by a run") from None

    def text(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    def check_resumes(self, before: Record, folder: Path) -> None:
        """Raises :class:`InputError`, which says what has changed, unless rows of both belong together.

        Other versions of what computes are allowed, with a warning: every row is right, but they may differ.
        """
        changes = []
        then, now = dict(_leaves(before.configuration)), dict(_leaves(self.configuration))
        for key in dict.fromkeys((*then, *now)):
            if then.get(key) != now.get(key):
                changes.append(f"{key} ({_shown(then, key)}, now {_shown(now, key)})")
        if changes:
            changes = [f"the configuration: {', '.join(changes)}"]
        changes += [f"the {name}" for name in ("network", "data") if getattr(before, name) != getattr(self, name)]
        if changes:
            raise InputError(f"{folder}: cannot be resumed, because this has changed: {'; '.join(changes)}")
        others = [
            f"{name} {version}, now {self.versions.get(name)}"
            for name, version in before.versions.items()
            if self.versions.get(name) != version
        ]
        if others:
            LOG.warning("%s: its rows were made with other versions (%s)", folder, ", ".join(others))


def _hash(samples: Iterable[Sample]) -> str:
    found = hashlib.sha256()
    for sample in samples:
        found.update(f"{sample.index} {sample.label} {tuple(sample.x.shape)}\n".encode())
        found.update(sample.x.contiguous().numpy().tobytes())
    return found.hexdigest()


def _leaves(value: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    """``methods[1].k`` and what is there, for everything that is no mapping and no list."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _leaves(item, f"{path}[{position}]")
    else:
        yield path, value


def _shown(leaves: Mapping[str, Any], key: str) -> str:
    return json.dumps(leaves[key]) if key in leaves else "not there"
