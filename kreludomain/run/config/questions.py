"""The key ``claim``: a question by its name, with its options.

Nothing here knows a question: a new one is available in YAML as soon as it is in ``QUESTIONS``. Of a question's options
the first can be given alone: ``{top_k: 3}`` is ``{top_k: {k: 3}}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, ValidationError

from kreludomain.options import Path, as_mapping, explain_item, from_mapping, option_fields, shown, wrong
from kreludomain.property.questions import QUESTIONS, Linear, PerLabel, Question

#: What a claim can be, for those who gave something else.
_FORMS = f"one of {', '.join(QUESTIONS)}, as {{top_k: 3}}, or {{C: [[...]], d: [...]}}"


def parse_question(value: Any) -> Question:
    """The value of ``claim``. Raises pydantic's ``ValidationError`` with paths that start at it."""
    if isinstance(value, Mapping) and {"C", "d"} & value.keys():
        return from_mapping(Linear, value)
    name: Any = value
    options: Any = {}
    if isinstance(value, Mapping):
        if len(value) != 1:
            keys = ", ".join(map(str, value)) or "none"
            raise wrong({(): f"should be a mapping of one key, {_FORMS}, not of {keys}"})
        ((name, options),) = value.items()
    if not isinstance(name, str) or name not in QUESTIONS:
        raise wrong({(): f"{shown(name)} is not {_FORMS}"})
    kind = QUESTIONS[name]
    if not isinstance(value, Mapping) and _is_required(kind):
        raise wrong({(name,): f"give {{{name}: {_first_option(kind).upper()}}}"})
    if kind is PerLabel:
        return PerLabel(_per_label(options))
    if isinstance(options, Mapping):
        return _within((name,), 0, kind, options)
    return _within((name,), 1, kind, {_first_option(kind): options})


def _within(path: Path, drop: int, kind: type[Question], options: Mapping[str, Any]) -> Question:
    """A question from its options; errors lie at ``path``, without the first ``drop`` parts of their own paths."""
    try:
        return from_mapping(kind, options)
    except ValidationError as error:
        lines = {(*path, *item["loc"][drop:]): explain_item(item) for item in error.errors(include_url=False)}
        raise wrong(lines) from None


def _per_label(options: Any) -> dict[int | str, Question]:
    if not isinstance(options, Mapping) or not options:
        raise wrong({("per_label",): f"should be a mapping of labels to claims, not {shown(options)}"})
    found = dict[int | str, Question]()
    for label, value in options.items():
        if not isinstance(label, int | str):
            raise wrong({("per_label",): f"{shown(label)} is not a label"})
        try:
            found[label] = parse_question(value)
        except ValidationError as error:
            path = ("per_label", str(label))
            lines = {(*path, *item["loc"]): explain_item(item) for item in error.errors(include_url=False)}
            raise wrong(lines) from None
    return found


def question_item(question: Question) -> Any:
    """A question as YAML writes it."""
    if isinstance(question, Linear):
        return {key: value for key, value in as_mapping(question).items() if value is not None}
    name = next(name for name, kind in QUESTIONS.items() if type(question) is kind)
    if isinstance(question, PerLabel):
        return {name: {label: question_item(each) for label, each in question.questions.items()}}
    options = {key: value for key, value in as_mapping(question).items() if value is not None}
    first = _first_option(type(question))
    if not options:
        return name
    return {name: options[first] if list(options) == [first] else options}


def _first_option(kind: type[Question]) -> str:
    return next(iter(option_fields(kind)))


def _is_required(kind: type[Question]) -> bool:
    """Whether the first option has no default."""
    return option_fields(kind)[_first_option(kind)][1] is ...


#: A key that holds a question.
QuestionItem = Annotated[Question, PlainValidator(parse_question), PlainSerializer(question_item)]
