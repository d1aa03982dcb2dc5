"""Strict models of configurations; a wrong value is one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from kreludomain.errors import InputError
from kreludomain.options import Keys, explain, wrong

__all__ = ["Keys", "Model", "check", "explain", "require_distinct", "wrong"]

Model = TypeVar("Model", bound=BaseModel)


def check(model: type[Model], value: Any, source: str) -> Model:
    """``value`` as a model. Raises :class:`InputError`: one line that names ``source``, the key and the mistake."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InputError(f"{source}: {explain(error)}") from None


def require_distinct(names: Sequence[str], *path: str | int) -> None:
    """Raises a validation error for items of a list, at ``path``, that tables could not tell apart."""
    for position, name in enumerate(names):
        first = names.index(name)
        if first != position:
            raise wrong({(*path, position): f"'{name}' is the label of item {first} too; give it another label"})
