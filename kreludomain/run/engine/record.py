"""The record of a run in its folder: command, configuration, hashes. A resumed run is compared with it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kreludomain.data import Sample
from kreludomain.errors import InputError
from kreludomain.network import Network, to_onnx
from kreludomain.run.engine.folder import RECORD, versions
from kreludomain.run.engine.machine import describe

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """The configuration's keys that decide rows, and SHA-256 hashes of the contents that rows depend on.

    ``command`` is the study's name; ``machine`` and ``versions`` say where and with what it runs.
    """

    command: str
    configuration: Mapping[str, Any]
    contents: Mapping[str, str]
    machine: Mapping[str, Any] = field(default_factory=describe)
    versions: Mapping[str, str] = field(default_factory=versions)

    @classmethod
    def read(cls, folder: Path) -> Record:
        """The record of a folder. Raises :class:`InputError` if it has none."""
        path = folder / RECORD
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            raise InputError(f"{path}: not there, or not written by a run") from None

    def text(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    def check_resumes(self, before: Record, folder: Path) -> None:
        """Raises :class:`InputError`, which names every change, unless rows of both belong together.

        Other versions of the libraries are allowed, with a warning: every row is right, but they may differ.
        """
        changes = []
        if before.command != self.command:
            changes.append(f"the command ({before.command}, now {self.command})")
        then, now = dict(_leaves(before.configuration)), dict(_leaves(self.configuration))
        keys = [key for key in dict.fromkeys((*then, *now)) if then.get(key) != now.get(key)]
        if keys:
            changed = (f"{key} ({_shown(then, key)}, now {_shown(now, key)})" for key in keys)
            changes.append(f"the configuration: {', '.join(changed)}")
        changes += [f"the {name}" for name in self.changed_contents(before)]
        if changes:
            raise InputError(f"{folder}: cannot be resumed, because this has changed: {'; '.join(changes)}")
        others = [
            f"{name} {version}, now {self.versions.get(name)}"
            for name, version in before.versions.items()
            if self.versions.get(name) != version
        ]
        if others:
            LOG.warning("%s: its rows were made with other versions (%s)", folder, ", ".join(others))

    def changed_contents(self, before: Record) -> list[str]:
        """The names of contents that have changed."""
        names = dict.fromkeys((*before.contents, *self.contents))
        return [name for name in names if before.contents.get(name) != self.contents.get(name)]


def network_hash(network: Network) -> str:
    """The hash of a network: of its ONNX model, with the weights in other files; of a difference, of both terms'."""
    if network.terms is not None:
        return hashlib.sha256("".join(map(network_hash, network.terms)).encode()).hexdigest()
    return network.model.digest() if network.model is not None else hashlib.sha256(to_onnx(network)).hexdigest()


def samples_hash(samples: Iterable[Sample]) -> str:
    """The hash of samples: positions, labels, targets, values, and the distances that they come with."""
    found = hashlib.sha256()
    for sample in samples:
        target = "" if sample.target is None else f" {sample.target!r}"
        found.update(f"{sample.index} {sample.label}{target} {tuple(sample.x.shape)}\n".encode())
        for tensor in (sample.x, sample.epsilon):
            found.update(b"" if tensor is None else tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


def files_hash(files: Iterable[Path]) -> str:
    """The hash of files in their order; one that is there several times is read once."""
    found = hashlib.sha256()
    digests: dict[Path, bytes] = {}
    for file in files:
        if file not in digests:
            digests[file] = hashlib.sha256(file.read_bytes()).digest()
        found.update(digests[file])
    return found.hexdigest()


def _leaves(value: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    """Paths such as ``methods[1].k`` and their values, for everything that is no mapping and no list."""
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
