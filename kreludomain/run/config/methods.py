"""Items of ``methods``: a name, or a name with options, checked as the method's class checks them.

Nothing here knows a method: a new one, or a new option of one, is available in YAML as soon as it is in ``METHODS``.
Of an option that takes a name or an object, the name can be given; of options within options, a mapping.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, Strict, ValidationError, create_model

from kreludomain.attack import Attack, PGDAttack
from kreludomain.domain import Method
from kreludomain.errors import InputError, did_you_mean
from kreludomain.options import (
    Keys,
    Options,
    as_mapping,
    checked_values,
    explain,
    from_mapping,
    made,
    option_fields,
    option_model,
    shown,
    wrong,
)
from kreludomain.property import ball
from kreludomain.run.config.files import ConfigFile, RunKeys, require_distinct
from kreludomain.run.config.yaml_text import parse_yaml
from kreludomain.verify import METHODS, try_on

#: The option that labels name even where it is the default: how many neurons are relaxed jointly.
GROUP_SIZE = "k"

#: Keys that configurations of version 0.1 have, by method, and the option now: ``a.b`` is ``b`` in the mapping ``a``.
EARLIER_KEYS: Mapping[str, Mapping[str, str]] = {
    "krelu-lp": {"chunk": "partition_size"},
    "krelu": {"chunk": "partition_size"},
    "complete": {
        **{key: f"bounder.{key}" for key in ("preset", "k", "grouping", "dtype", "device")},
        "chunk": "bounder.partition_size",
        "batch": "branching.batch",
        "branch_steps": "branching.steps",
        "few_inputs": "splitting.few_inputs",
    },
}
#: Likewise names that are values of an option.
EARLIER_VALUES: Mapping[tuple[str, str], str] = {("grouping", "coupling"): "correlation"}


@dataclass(frozen=True)
class NamedMethod:
    """A method, its label in tables, and its item in a configuration."""

    name: str
    label: str
    method: Method
    options: Mapping[str, Any]

    @property
    def is_joint(self) -> bool:
        """Whether it relaxes groups of neurons jointly, not only one neuron at a time."""
        return self.method.group_size > 1

    def resolved(self) -> dict[str, Any]:
        """The item of ``methods`` that is this method, with every option."""
        return {"name": self.name, "label": self.label, **{key: as_mapping(v) for key, v in self.options.items()}}


def parse_method(value: Any) -> NamedMethod:
    """An item of ``methods``. Raises pydantic's ``ValidationError`` with paths that start at the item."""
    item = value if isinstance(value, Mapping) else {"name": value}
    name = item.get("name")
    if not isinstance(name, str) or name not in METHODS:
        path = ("name",) if isinstance(value, Mapping) else ()
        raise wrong({path: f"{name!r} is not one of {', '.join(METHODS)}{did_you_mean(name, METHODS)}"})
    item = _renamed(name, item)
    values = checked_values(_keys(METHODS[name]), item)
    label, options = values.pop("label"), {key: value for key, value in values.items() if key != "name"}
    method = made(METHODS[name], options)
    given = _given(METHODS[name], options, item)
    return NamedMethod(name, label or " ".join([name, *(f"{k}={v}" for k, v in given.items())]), method, options)


def _renamed(name: str, item: Mapping[str, Any]) -> dict[str, Any]:
    """An item with the keys and values of version 0.1 as they are now; a key that is given both ways stays, unknown."""
    keys = EARLIER_KEYS.get(name, {})
    now = {key: value for key, value in item.items() if key not in keys}
    for key in (key for key in item if key in keys):
        outer, _, inner = keys[key].partition(".")
        within = now.get(outer, {}) if inner else now
        if not isinstance(within, Mapping) or (inner or outer) in within:
            now[key] = item[key]
        else:
            now[outer] = {**within, inner: item[key]} if inner else item[key]
    return {key: EARLIER_VALUES.get((key, str(value)), value) for key, value in now.items()}


def _given(kind: type[Options], options: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
    """The options that an item gives and that are not their defaults, ``a.b`` for those within options ``a``."""
    given, defaults = dict[str, Any](), option_model(kind).model_fields
    for key, value in options.items():
        if key not in item:
            continue
        if isinstance(value, Options) and isinstance(item[key], Mapping):
            within = {name: getattr(value, name) for name in option_model(type(value)).model_fields}
            given |= {f"{key}.{name}": each for name, each in _given(type(value), within, item[key]).items()}
        elif key == GROUP_SIZE or value != defaults[key].default:
            given[key] = value
    return given


#: A key that holds a method.
MethodItem = Annotated[NamedMethod, PlainValidator(parse_method), PlainSerializer(NamedMethod.resolved)]


def _attack(value: Any) -> bool | Attack:
    """``true``, ``false``, or an attack by a mapping of its options."""
    if isinstance(value, Mapping):
        return from_mapping(PGDAttack, value)
    if not isinstance(value, bool):
        raise wrong({(): f"input should be true or false, or a mapping of options, not {shown(value)}"})
    return value


#: A key that says whether counterexamples are looked for, and perhaps how.
AttackItem = Annotated[bool | Attack, PlainValidator(_attack), PlainSerializer(as_mapping)]


def _distinct(methods: tuple[NamedMethod, ...]) -> tuple[NamedMethod, ...]:
    require_distinct([method.label for method in methods])
    return methods


def _not_empty(methods: tuple[NamedMethod, ...]) -> tuple[NamedMethod, ...]:
    if not methods:
        raise wrong({(): "should have at least one item"})
    return methods


#: A key that holds methods, each with a label of its own; the second kind holds at least one.
AnyMethods = Annotated[tuple[MethodItem, ...], Strict(False), AfterValidator(_distinct)]
Methods = Annotated[AnyMethods, AfterValidator(_not_empty)]


def named_method(value: Any, source: str) -> NamedMethod:
    """An item of ``methods``, or :class:`InputError`: one line that starts with ``source``."""
    try:
        return parse_method(value)
    except ValidationError as error:
        raise InputError(f"{source}: {explain(error)}") from None


def method_from_arguments(name: str, options: Sequence[str], **more: Any) -> NamedMethod:
    """A method from ``--method NAME`` and ``--option KEY=VALUE``s, the values as in YAML; ``more`` options besides."""
    given = {**more, **key_values("--option", options, {"name", "label", *more})}
    return named_method({"name": name, **given}, f"--method {name}")


def key_values(option: str, given: Sequence[str], taken: Iterable[str] = ()) -> dict[str, Any]:
    """The keys that an option of the command line gives as ``KEY=VALUE``, each once and none that is ``taken``."""
    found: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or key in {"", *taken, *found}:
            raise InputError(f"{option} {text}: give KEY=VALUE, each key once")
        found[key] = parse_yaml(value, f"{option} {text}")
    return found


def _keys(kind: type[Method]) -> type[Keys]:
    """The keys of an item: the method's name, its label in tables, and its options."""
    label = (Annotated[str, Field(min_length=1)] | None, None)
    fields: dict[str, Any] = {"name": (str, ...), "label": label, **option_fields(kind, as_written=True)}
    return create_model(kind.__name__, __base__=Keys, **fields)


def try_methods(file: ConfigFile[RunKeys], norm: str, methods: Iterable[NamedMethod], key: str = "methods") -> None:
    """:func:`try_method` for the list of methods under a key of a configuration. Errors name the item."""
    for position, method in enumerate(methods):
        with file.named(f"{key}[{position}]"):
            try_method(norm, method)


def try_method(norm: str, method: NamedMethod) -> None:
    """Raises :class:`InputError` where a method cannot take balls in the run's norm; this takes no time."""
    try_on(method.method, ball(torch.zeros(2, dtype=torch.float64), 1.0, norm))
