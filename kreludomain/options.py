"""Objects of options, and the strict check of their values: the same, in the same words, from Python and from YAML.

An options class is a frozen dataclass that is derived from :class:`Options`. The types of its fields are checked, so
that an option is declared once, as a field::

    @dataclass(frozen=True)
    class Search(Options):
        steps: int = 30                              # "3": "steps: input should be a whole number, not '3'"
        rule: str | Rule = "area"                    # a name, or an object
        inner: Inner = field(default_factory=Inner)  # options within options: an object, or a mapping of its options

An option that holds options takes a mapping as well, which is how YAML writes it; options that the mapping does not
give are those of the default.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import (
    AllowInfNan,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SerializationInfo,
    Strict,
    ValidationError,
    WrapValidator,
    create_model,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from kreludomain.errors import InputError, did_you_mean

Path = tuple[str | int, ...]

#: A number that may be infinite, which other numbers of options may not.
Unlimited = Annotated[float, AllowInfNan(True)]


def _moved(path: str, info: SerializationInfo) -> str:
    return path if info.context is None else info.context(path)  # a function that says where it is from elsewhere


#: Text that is not empty.
Text = Annotated[str, Field(min_length=1)]
#: A file's path; in a configuration it is relative to the configuration's file.
FilePath = Annotated[Text, PlainSerializer(_moved)]


class Keys(BaseModel):
    """A mapping whose keys are all known and whose values have exactly the type they should have."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())

    @classmethod
    def key_order(cls) -> tuple[str, ...]:
        """The keys in the order in which messages and written files list them."""
        return tuple(cls.model_fields)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        fields = cls.key_order()
        if not isinstance(value, Mapping):
            raise wrong({(): f"should be a mapping of keys ({', '.join(fields)}), not {shown(value)}"})
        unknown = [key for key in value if key not in fields]
        if unknown:
            raise wrong(
                {
                    (str(key),): f"unknown key; known are {', '.join(fields)}{did_you_mean(key, fields)}"
                    for key in unknown
                }
            )
        return value


def wrong(texts: Mapping[Path, str]) -> ValidationError:
    """An error for each path; raised within a validator, the paths go on from where the validator is."""
    details: list[InitErrorDetails] = [
        {"type": PydanticCustomError("wrong", "{text}", {"text": text}), "loc": path, "input": None}
        for path, text in texts.items()
    ]
    return ValidationError.from_exception_data("configuration", details)


#: The text for a type of error of pydantic's, with the input and the error's context.
_TEXTS = {
    "missing": "missing",
    "float_type": "input should be a number, not {input}",
    "int_type": "input should be a whole number, not {input}",
    "int_from_float": "input should be a whole number, not {input}",
    "string_type": "input should be text, not {input}",
    "string_too_short": "should not be empty",
    "bool_type": "input should be true or false, not {input}",
    "tuple_type": "input should be a list, not {input}",
    "list_type": "input should be a list, not {input}",
    "literal_error": "{input} is not {expected}",
    "finite_number": "input should be a finite number, not {input}",
    "greater_than": "input should be greater than {gt:g}, not {input}",
    "greater_than_equal": "input should be {ge:g} or more, not {input}",
    "too_short": "should have at least {min_length} items, not {actual_length}",
    "too_long": "should have at most {max_length} items, not {actual_length}",
}


Model = TypeVar("Model", bound=BaseModel)


def check(model: type[Model], value: Any, source: str) -> Model:
    """``value`` as a model. Raises :class:`InputError`: one line that names ``source``, the key and the mistake."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InputError(f"{source}: {explain(error)}") from None


def explain(error: ValidationError) -> str:
    """All that is wrong, in one line: ``region.epsilon: input should be a number, not 'abc'; ...``."""
    lines = []
    for item in error.errors(include_url=False):
        said = explain_item(item)
        lines.append(f"{_dotted(item['loc'])}: {said}" if item["loc"] else said)
    return "; ".join(dict.fromkeys(lines))


def explain_item(item: Mapping[str, Any]) -> str:
    """What is wrong at the path of one of an error's items."""
    text = _TEXTS.get(item["type"])
    context = {**item.get("ctx", {}), "input": shown(item["input"])}
    return str(item["msg"]) if text is None else text.format(**context)


def shown(value: Any) -> str:
    """A value as short text."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _dotted(path: Sequence[str | int]) -> str:
    """``("methods", 1, "k")`` as ``methods[1].k``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


class Options:
    """A frozen dataclass of options, checked by the types of its fields when it is made.

    A class that checks more than types does so in a ``__post_init__`` of its own, after this one's. It raises
    :class:`InputError` with the option's name in front of a colon.
    """

    _model: ClassVar[type[Keys]]

    def __post_init__(self) -> None:
        model = option_model(type(self))
        names = model.model_fields
        try:
            checked = model.model_validate({name: getattr(self, name) for name in names})
        except ValidationError as error:
            raise InputError(explain(error)) from None
        for name in names:
            value = getattr(checked, name)
            if value is not getattr(self, name):  # a whole number for a number, a mapping for options
                object.__setattr__(self, name, value)


AnyOptions = TypeVar("AnyOptions", bound=Options)


def from_mapping(kind: type[AnyOptions], values: Mapping[str, Any]) -> AnyOptions:
    """Options from a mapping. Raises pydantic's ``ValidationError`` with paths that start at the mapping."""
    return made(kind, checked_values(option_model(kind), values))


def checked_values(model: type[Keys], values: Any) -> dict[str, Any]:
    """The values of a mapping by a model's fields, defaults included. Raises pydantic's ``ValidationError``."""
    checked = model.model_validate(values)
    return {name: getattr(checked, name) for name in model.model_fields}


def made(kind: type[AnyOptions], values: Mapping[str, Any]) -> AnyOptions:
    """Options from checked values. Raises ``ValidationError`` for a value that the class does not take."""
    try:
        return kind(**values)
    except InputError as error:
        # A class says which of its options it means in front of the colon.
        key, colon, text = str(error).partition(": ")
        raise wrong({(key,): text} if colon and key in values else {(): str(error)}) from None


def as_mapping(value: Any) -> Any:
    """A value as YAML writes it: options as mappings, tuples as lists."""
    if isinstance(value, Options):
        return {name: as_mapping(getattr(value, name)) for name in option_model(type(value)).model_fields}
    return [as_mapping(each) for each in value] if isinstance(value, tuple | list) else value


def option_model(kind: type[Options]) -> type[Keys]:
    """The model of an options class: its fields as keys. Made once a class."""
    if "_model" not in vars(kind):
        kind._model = create_model(kind.__name__, __base__=Keys, **option_fields(kind))
    return kind._model


def option_fields(kind: type[Any], as_written: bool = False) -> dict[str, Any]:
    """The fields of an options class by name: the type that pydantic checks, and the default (``...``: none).

    ``as_written``: only those of which YAML can write some values.
    """
    try:
        hints = get_type_hints(kind, include_extras=True)
    except NameError:  # types that are only known to a type checker, or in a function: those fields are not checked
        hints = {}
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        hint = hints.get(field.name, Any)
        if field.init and not field.name.startswith("_") and (_is_written(hint) or not as_written):
            fields[field.name] = (_checked(hint, _nested_default(field)), _default(field))
    return fields


def _is_written(hint: Any) -> bool:
    """Whether there are values of a type that YAML can write, but for none at all."""
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return any(_is_plain(part) or _is_options(part) for part in parts if part is not types.NoneType)


def _is_plain(hint: Any) -> bool:
    return hint in _SCALARS or get_origin(hint) in (Literal, Annotated, tuple, list)


def _is_options(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Options)


def _default(field: dataclasses.Field[Any]) -> Any:
    missing = dataclasses.MISSING
    value = field.default if field.default_factory is missing else field.default_factory()
    return ... if value is missing else value


#: A class of options, and those that a default gives: what a mapping of further options is added to.
_Nested = tuple[type[Options], Mapping[str, Any]]


def _nested_default(field: dataclasses.Field[Any]) -> _Nested | None:
    factory: Any = field.default_factory
    given: Mapping[str, Any] = {}
    if isinstance(factory, functools.partial):
        factory, given = factory.func, factory.keywords
    return (factory, given) if isinstance(factory, type) and issubclass(factory, Options) else None


_SCALARS = (str, int, float, bool, types.NoneType)


def _checked(hint: Any, nested: _Nested | None) -> Any:
    """The type as pydantic checks it: scalars and lists strictly, options by their fields, all else by its class."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in _SCALARS or origin is Literal or origin is Annotated:
        return hint
    if origin in (Union, types.UnionType):
        return _union(arguments, nested)
    if origin in (tuple, list) and arguments:
        return Annotated[origin[tuple(a if a is ... else _checked(a, None) for a in arguments)], Strict(False)]
    if _is_options(hint):
        return Annotated[Any, PlainValidator(functools.partial(_options, hint, nested))]
    return Annotated[Any, PlainValidator(functools.partial(_instance, hint))]


def _union(parts: Sequence[Any], nested: _Nested | None) -> Any:
    """Scalars as they are, with objects of the other types let through before."""
    scalars = [part for part in parts if _is_plain(part)]
    objects = [part for part in parts if part not in scalars]
    if not [part for part in scalars if part is not types.NoneType]:
        checks = [_checked(part, nested) for part in objects]
        return Union[(*checks, *scalars)]
    checked: Any = Union[tuple(_checked(part, None) for part in scalars)]  # noqa: UP007
    if len([part for part in scalars if part is not types.NoneType]) > 1:
        checked = Annotated[checked, WrapValidator(functools.partial(_one_of, scalars))]
    options = [part for part in objects if _is_options(part)]

    def let_through(value: Any, handler: Callable[[Any], Any]) -> Any:
        if options and nested is not None and isinstance(value, Mapping):
            return _options(options[0], nested, value)
        if any(_is(part, value) for part in objects):
            return value
        if not isinstance(value, (*_SCALARS, Mapping, list, tuple)):  # not what YAML can write, so an object was meant
            raise wrong({(): f"input should be a name or {', or '.join(map(_named, objects))}, not {shown(value)}"})
        return handler(value)

    return Annotated[checked, WrapValidator(let_through)] if objects else checked


#: What a value of a type is called where one of several is expected.
_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _one_of(parts: Sequence[Any], value: Any, handler: Callable[[Any], Any]) -> Any:
    """A union with one error, not one for each of its types: of a list, what is wrong with its items."""
    try:
        return handler(value)
    except ValidationError as error:
        items = [item for item in error.errors(include_url=False) if len(item["loc"]) > 1]
        if isinstance(value, list | tuple) and items:
            raise wrong({item["loc"][1:2]: explain_item(item) for item in items}) from None
        kinds = [_KINDS.get(part, "a list") for part in parts if part is not types.NoneType]
        said = f"{', '.join(kinds[:-1])} or {kinds[-1]}"
        raise wrong({(): f"input should be {said}, not {shown(value)}"}) from None


def _options(kind: type[Options], nested: _Nested | None, value: Any) -> Options:
    """Options as they are given, or made from a mapping, to which a default adds what the mapping leaves out."""
    if isinstance(value, kind):
        return value
    made_by, given = (kind, {}) if nested is None else nested
    if isinstance(value, Mapping):
        value = {**given, **value}
    return from_mapping(made_by, value)


def _instance(hint: Any, value: Any) -> Any:
    if not _is(hint, value):
        raise wrong({(): f"input should be {_named(hint)}, not {shown(value)}"})
    return value


def _named(hint: Any) -> str:
    return "a function" if get_origin(hint) is Callable else f"an object of {getattr(hint, '__name__', hint)}"


def _is(hint: Any, value: Any) -> bool:
    """Whether a value is an object of a type, as far as that is seen at runtime."""
    kind = get_origin(hint) or hint
    if getattr(kind, "_is_protocol", False):  # structural: any object may be one that is no scalar
        return not isinstance(value, (*_SCALARS, Mapping, list, tuple))
    if kind is Callable:
        return callable(value)
    return not isinstance(kind, type) or isinstance(value, kind)
