"""Numbers of a configuration: one, a fraction, a list of them, or those of a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import PlainValidator

from kreludomain.errors import InputError
from kreludomain.options import FilePath, Keys, shown, wrong
from kreludomain.options import Path as KeyPath
from kreludomain.property.around import number, numbers


class FileKeys(Keys):
    """Numbers from a ``.npy`` file, or from a ``.csv`` file that has nothing else."""

    file: FilePath


#: A number, a fraction such as ``8/255``, a list of them (perhaps of lists), or a file with them.
AnyValues: TypeAlias = float | str | tuple[Any, ...] | FileKeys


def checked_values(value: Any, least: float = -math.inf, path: KeyPath = ()) -> AnyValues:
    """The values of a key. Raises a validation error with the path of the entry that is none."""
    if isinstance(value, FileKeys):
        return value
    if isinstance(value, Mapping):
        return FileKeys.model_validate(value)
    if isinstance(value, list | tuple):
        if not value:
            raise wrong({path: "should have at least one item"})
        items = tuple(checked_values(each, least, (*path, position)) for position, each in enumerate(value))
        if len({_lengths(each) for each in items}) > 1:
            raise wrong({path: "has lists of different lengths"})
        return items
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise wrong({path: f"input should be a number, not {shown(value)}"})
    if isinstance(value, str) and "/" not in value:
        said = "number or a fraction such as 8/255" if any(map(str.isdigit, value)) else "number"
        raise wrong({path: f"input should be a {said}, not {shown(value)}"})
    try:
        found = number(value)
    except InputError as error:
        raise wrong({path: str(error)}) from None
    if not math.isfinite(found):
        raise wrong({path: f"input should be a finite number, not {shown(value)}"})
    if found < least:
        raise wrong({path: f"input should be {least:g} or more, not {shown(value)}"})
    return value if isinstance(value, str) else float(value)


def _lengths(value: AnyValues) -> tuple[int, ...]:
    """The shape of a list of lists, whose items are of one shape."""
    return (len(value), *_lengths(value[0])) if isinstance(value, tuple) else ()


#: A key that holds numbers.
Values = Annotated[Any, PlainValidator(checked_values)]


def _above_zero(value: Any) -> AnyValues:
    found = checked_values(value, 0.0)
    if not isinstance(found, FileKeys) and bool((numbers(found) == 0).any()):
        raise wrong({(): f"should be above 0, not {shown(value)}"})
    return found


class NormaliseKeys(Keys):
    """Inputs of the network are ``(value - mean) / std``: one number, one a channel, or one an entry.

    ``applied``: the data has been put through this already. Epsilon and clip are those of the values before,
    in any case.
    """

    mean: Values
    std: Annotated[Any, PlainValidator(_above_zero)]
    applied: bool = False


def words_of(values: object) -> str:
    """Values as a reader wants them: fractions as they were written, not more than a few of a list."""
    if isinstance(values, FileKeys):
        return f"the values of {Path(values.file).name}"
    if isinstance(values, tuple):
        few = [words_of(each) for each in values[:8]]
        return f"[{', '.join(few)}{', ...' if len(values) > len(few) else ''}]"
    return f"{values:g}" if isinstance(values, float) else str(values)
