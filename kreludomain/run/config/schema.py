"""Configuration models: strict, and what is wrong with a value in one line."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from kreludomain.errors import InputError
from kreludomain.options import Keys, explain, wrong

__all__ = ["Keys", "Model", "check", "explain", "wrong"]

Model = TypeVar("Model", bound=BaseModel)


def check(model: type[Model], value: Any, source: str) -> Model:
    """``value`` as a model. Raises :class:`InputError`: one line that names ``source``, the key and what is wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InputError(f"{source}: {explain(error)}") from None
