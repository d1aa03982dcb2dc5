"""YAML 1.2 as people expect it: ``1e-3`` is a number, ``no`` is text, a key given twice is an error."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from kreludomain.errors import InputError

_NOT_FINITE = r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"


def _float(text: str) -> float:
    return float(text.replace(".", "") if re.fullmatch(_NOT_FINITE, text) else text)


#: Plain scalars: name, pattern, the characters they start with ("": nothing), and the function that makes the value.
_SCALARS: tuple[tuple[str, str, list[str], Callable[[str], Any]], ...] = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""], lambda text: None),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF"), lambda text: text.lower() == "true"),
    ("int", r"[-+]?[0-9]+", list("-+0123456789"), int),
    ("float", rf"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|{_NOT_FINITE}", list("-+.0123456789"), _float),
    ("merge", r"<<", ["<"], str),
)


def _scalar(make: Callable[[str], Any], loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
    return make(str(loader.construct_scalar(node)))


class _Loader(yaml.SafeLoader):
    """Scalars by YAML 1.2's core schema (PyYAML's own rules are those of 1.1, where ``1e-3`` is text).

    A mapping in which a key is there twice is an error, not a silent choice.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key '{key.value}' is there twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}
for _name, _pattern, _first, _make in _SCALARS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), _first)
    _Loader.add_constructor(f"tag:yaml.org,2002:{_name}", partial(_scalar, _make))


def parse_yaml(text: str | bytes, source: str) -> Any:
    """The value that YAML text describes; ``source`` names it. Raises :class:`InputError` with the wrong line."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f" line {mark.line + 1}:"
        raise InputError(f"{source}:{line} {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        raise InputError(f"{source}: not a text file ({error.reason} at position {error.position})") from None
    except (ValueError, RecursionError) as error:  # '!!int abc', a thousand brackets
        raise InputError(f"{source}: {str(error).splitlines()[0]}") from None


def read_yaml(path: Path) -> Any:
    """The value that a YAML file describes. Raises :class:`InputError` with the file and the line."""
    if not path.exists():
        raise InputError(f"{path}: no such file")
    return parse_yaml(path.read_bytes(), str(path))
