"""Strict models, and what is wrong with a value in one line: the key's path, what it should be, what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from kreludomain.errors import InputError

Path = tuple[str | int, ...]


class Keys(BaseModel):
    """A mapping whose keys are all known and whose values have exactly the type they should have."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        known = ", ".join(cls.model_fields)
        if not isinstance(value, Mapping):
            raise wrong({(): f"should be a mapping of keys ({known}), not {_shown(value)}"})
        unknown = [key for key in value if key not in cls.model_fields]
        if unknown:
            raise wrong({(str(key),): f"unknown key; known are {known}" for key in unknown})
        return value


def wrong(texts: Mapping[Path, str]) -> ValidationError:
    """An error for each path; raised within a validator, the paths go on from where the validator is."""
    details: list[InitErrorDetails] = [
        {"type": PydanticCustomError("wrong", "{text}", {"text": text}), "loc": path, "input": None}
        for path, text in texts.items()
    ]
    return ValidationError.from_exception_data("configuration", details)


#: What to say for a type of error of pydantic's, with the input and the error's context.
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


def explain(error: ValidationError) -> str:
    """All that is wrong, in one line: ``region.epsilon: input should be a number, not 'abc'; ...``."""
    lines = []
    for item in error.errors(include_url=False):
        text = _TEXTS.get(item["type"])
        context = {**item.get("ctx", {}), "input": _shown(item["input"])}
        said = item["msg"] if text is None else text.format(**context)
        lines.append(f"{_dotted(item['loc'])}: {said}" if item["loc"] else said)
    return "; ".join(dict.fromkeys(lines))


Model = TypeVar("Model", bound=BaseModel)


def check(model: type[Model], value: Any, source: str) -> Model:
    """``value`` as a model. Raises :class:`InputError`: one line that names ``source``, the key and what is wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InputError(f"{source}: {explain(error)}") from None


def _dotted(path: Sequence[str | int]) -> str:
    """``("methods", 1, "k")`` as ``methods[1].k``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _shown(value: Any) -> str:
    """A value as short text."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
