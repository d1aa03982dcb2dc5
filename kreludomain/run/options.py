"""Items of ``methods``: a name, or a name with options, checked against the fields of the method's class.

Nothing here knows a method: a new one, or a new option of one, is available in YAML as soon as it is in ``METHODS``.
Of an option that takes a name or an object, the name can be given.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import Field, PlainSerializer, PlainValidator, Strict, ValidationError, create_model

from kreludomain.domain import Method
from kreludomain.errors import InputError
from kreludomain.run.schema import Keys, explain, wrong
from kreludomain.run.yaml_text import parse_yaml
from kreludomain.verify import METHODS

#: The option that says how many neurons a method relaxes jointly.
JOINT = "k"


@dataclass(frozen=True)
class NamedMethod:
    """A method, what tables call it, and how a configuration says it."""

    name: str
    label: str
    method: Method
    options: Mapping[str, Any]

    @property
    def is_joint(self) -> bool:
        """Whether it relaxes groups of neurons jointly, not only one neuron at a time."""
        return self.options.get(JOINT, 1) > 1

    def resolved(self) -> dict[str, Any]:
        """The item of ``methods`` that is this method, with every option."""
        options = {key: list(v) if isinstance(v, tuple) else v for key, v in self.options.items()}
        return {"name": self.name, "label": self.label, **options}


def parse_method(value: Any) -> NamedMethod:
    """An item of ``methods``. Raises pydantic's ``ValidationError`` with paths that start at the item."""
    item = value if isinstance(value, Mapping) else {"name": value}
    name = item.get("name")
    if not isinstance(name, str) or name not in METHODS:
        path = ("name",) if isinstance(value, Mapping) else ()
        raise wrong({path: f"{name!r} is not one of {', '.join(METHODS)}"})
    checked = _keys(name).model_validate(item).model_dump()
    label, options = checked.pop("label"), {key: checked[key] for key in checked if key != "name"}
    try:
        method = METHODS[name](**options)
    except InputError as error:
        # A class says which of its options it means in front of the colon.
        key, colon, text = str(error).partition(": ")
        raise wrong({(key,): text} if colon and key in options else {(): str(error)}) from None
    given = {key: v for key, v in options.items() if key in item and (key == JOINT or v != _defaults(name).get(key))}
    return NamedMethod(name, label or " ".join([name, *(f"{k}={v}" for k, v in given.items())]), method, options)


#: A key that holds a method.
MethodItem = Annotated[NamedMethod, PlainValidator(parse_method), PlainSerializer(NamedMethod.resolved)]


def named_method(value: Any, source: str) -> NamedMethod:
    """An item of ``methods``, or :class:`InputError`: one line that starts with ``source``."""
    try:
        return parse_method(value)
    except ValidationError as error:
        raise InputError(f"{source}: {explain(error)}") from None


def method_from_arguments(name: str, options: Sequence[str], **more: Any) -> NamedMethod:
    """A method from ``--method NAME`` and ``--option KEY=VALUE``s, the values as in YAML; ``more`` options besides."""
    given = dict(more)
    for text in options:
        key, equals, value = text.partition("=")
        if not equals or key in {"", "name", "label", *given}:
            raise InputError(f"--option {text}: give KEY=VALUE, each key once")
        given[key] = parse_yaml(value, f"--option {text}")
    return named_method({"name": name, **given}, f"--method {name}")


def _keys(name: str) -> type[Keys]:
    """The keys of an item: the method's name, its label in tables, and its class' fields."""
    hints, defaults = get_type_hints(METHODS[name]), _defaults(name)
    fields: dict[str, Any] = {
        "name": (str, ...),
        "label": (Annotated[str, Field(min_length=1)] | None, None),
    }
    for field in dataclasses.fields(METHODS[name]):
        hint = _in_yaml(hints[field.name])
        if field.init and hint is not None:
            fields[field.name] = (hint, defaults.get(field.name, ...))
    return create_model(name, __base__=Keys, **fields)


def _defaults(name: str) -> dict[str, Any]:
    missing = dataclasses.MISSING
    defaults = {
        field.name: field.default if field.default_factory is missing else field.default_factory()
        for field in dataclasses.fields(METHODS[name])
    }
    return {key: value for key, value in defaults.items() if value is not missing}


def _in_yaml(hint: Any) -> Any:
    """What YAML can say of a type: scalars, lists of them, what is left of a union; ``None`` if that is nothing."""
    if hint in (str, int, float, bool, types.NoneType) or get_origin(hint) is Literal:
        return hint
    parts = [part for part in map(_in_yaml, get_args(hint)) if part is not None and part is not ...]
    if get_origin(hint) in (Union, types.UnionType) and any(part is not types.NoneType for part in parts):
        return Union[tuple(parts)]  # noqa: UP007  the parts are known only now
    if get_origin(hint) in (tuple, list) and len(parts) == len([p for p in get_args(hint) if p is not ...]):
        return Annotated[hint, Strict(False)]
    return None
