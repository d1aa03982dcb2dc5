"""The command ``show``: its configuration has either ``plane`` (reachable sets) or ``group`` (a pair of neurons)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kreludomain.errors import InputError
from kreludomain.run.config.files import ConfigFile, load_config
from kreludomain.run.config.yaml_text import read_yaml
from kreludomain.run.engine.study import ConfigPath, Study
from kreludomain.run.show.config import GroupConfig, PlaneConfig
from kreludomain.run.show.group import GroupStudy, RelaxationRow
from kreludomain.run.show.plane import PlaneStudy
from kreludomain.run.show.plane_rows import SetRow

#: The study of each kind of configuration, by the key that only this kind has.
KINDS: dict[str, type[Study[Any, Any, Any]]] = {"plane": PlaneStudy, "group": GroupStudy}


class Show(Study[Any, Any, Any]):
    """``kreludomain show``: :meth:`prepare` returns the study of the configuration's kind."""

    name = "show"
    help = "Draw reachable sets in a plane, or the relaxations of a pair of neurons, as CONFIG says."
    config_model = PlaneConfig | GroupConfig
    row_type = SetRow | RelaxationRow
    files = ("reach.*", "sets.csv", "reachable_set.npz", "group.*")

    @classmethod
    def load(cls, config: ConfigPath) -> ConfigFile[Any]:
        value = read_yaml(config)
        given = [kind for key, kind in KINDS.items() if isinstance(value, Mapping) and key in value]
        if len(given) != 1:
            raise InputError(f"{config}: give plane (reachable sets of a network) or group (relaxations of a pair)")
        return load_config(config, given[0].config_model)

    @classmethod
    def prepare(cls, file: ConfigFile[Any]) -> Study[Any, Any, Any]:
        (kind,) = (kind for kind in KINDS.values() if type(file.config) is kind.config_model)
        return kind.prepare(file)
