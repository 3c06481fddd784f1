"""From a list in a file to the canonical list of a record: labels, texts, words, tags; and answers with their offsets.

CSV has no lists, so a cell that holds a JSON array counts as one.
"""

import json
from itertools import chain
from typing import Any, TypedDict

from app.datasets.problems import shown
from app.datasets.values import (
    MISSING,
    InvalidValueError,
    MarkedLabels,
    check_characters,
    is_encodable,
    kind_of,
    label,
    text,
)

LIST_FIX = 'write it as a list of strings: ["…", "…"]'


class Answers(TypedDict):
    """Gold answers: texts and where each begins in the context, in code points."""

    text: list[str]
    answer_start: list[int]


def as_list(value: object) -> list[Any] | None:
    """The list that a value is or, as text, holds; else None."""
    if isinstance(value, list):
        return value
    if isinstance(value, MarkedLabels):
        return list(value)
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, list) else None
    return None


def as_object(value: object) -> dict[str, Any] | None:
    """The object that a value is or, as text, holds; else None."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def labels(value: object) -> list[str]:
    """Labels, each once, in the order given; none at all is fine. Raises InvalidValueError for anything else."""
    found = as_list(value)
    if found is None:
        raise _no_list(value, "labels", "a text without labels has an empty list")
    return list(dict.fromkeys(label(item) for item in found))


def texts(value: object) -> list[str] | None:
    """Texts, unchanged; a string counts as one, an empty list as none. Raises InvalidValueError for the rest."""
    if isinstance(value, str) and as_list(value) is None:
        return [text(value)]
    return [text(item) for item in _strings(value, "texts")] or None


def words(value: object) -> list[str]:
    """The words of a text, unchanged. Raises InvalidValueError for what is no list of strings, or an empty one."""
    found = _strings(value, "words")
    if not found:
        raise InvalidValueError("empty_text", "the list of words is empty", "fill it in, or leave the record out")
    return found


def tags(value: object) -> list[str]:
    """The tags of a text's words, unchanged. Raises InvalidValueError for what is no list of strings."""
    return _strings(value, "tags")


def answers(value: object) -> Answers:
    """Answers as SQuAD writes them, or a list of {text, answer_start}. Raises InvalidValueError for anything else."""
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise _no_answers(value) from None
    if isinstance(value, list):
        if not all(isinstance(item, dict) and {"text", "answer_start"} <= item.keys() for item in value):
            raise _no_answers(value)
        value = {name: [item[name] for item in value] for name in ("text", "answer_start")}
    if not isinstance(value, dict):
        raise _no_answers(value)
    texts, starts = value.get("text"), value.get("answer_start")
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        raise _no_answers(value)
    if any(type(start) is not int or start < 0 for start in starts):
        raise InvalidValueError(
            "answer_start_not_offset",
            f"answer_start is {shown(starts)}",
            "give the position of each answer's first character in its context, counted from 0",
        )
    return {"text": _strings(texts, "answers"), "answer_start": starts}


def lists_of_words(values: list[Any]) -> list[list[str]] | None:
    """Many lists of words at once; None where one is not fine as it stands."""
    return lists_of_tags(values) if all(values) else None


def lists_of_texts(values: list[Any]) -> list[list[str]] | None:
    """Many lists of texts at once; None where one is not fine as it stands."""
    found = lists_of_tags(values) if all(values) else None
    return None if found is None or any(not item or item.isspace() for item in chain.from_iterable(found)) else found


def lists_of_tags(values: list[Any]) -> list[list[str]] | None:
    """Many lists of tags at once; None where one is not fine as it stands."""
    if set(map(type, values)) != {list} or not set(map(type, chain.from_iterable(values))) <= {str}:
        return None
    together = "".join(chain.from_iterable(values))
    return values if "\0" not in together and (together.isascii() or is_encodable(together)) else None


def lists_of_labels(values: list[Any]) -> list[list[str]] | None:
    """Many lists of labels at once, judging each different label once; None where one is not fine as it stands."""
    if set(map(type, values)) != {list} or not set(map(type, chain.from_iterable(values))) <= {str}:
        return None
    different = set(chain.from_iterable(values))
    try:
        fine = all(label(name) is name for name in different)
    except InvalidValueError:
        return None
    return values if fine and all(len(set(names)) == len(names) for names in values) else None


def _strings(value: object, kind: str) -> list[str]:
    found = as_list(value)
    if found is None:
        raise _no_list(value, kind)
    for index, item in enumerate(found, 1):
        if type(item) is not str:
            raise InvalidValueError(
                f"{kind}_not_strings",
                f"number {index} of the {kind} is no string but {shown(item)}",
                f"write all {kind} as strings"
                + ("; numbers of classes say nothing without their names" if isinstance(item, int) else ""),
            )
        check_characters(item)
    return found


def _no_list(value: object, kind: str, hint: str = "") -> InvalidValueError:
    if value is MISSING:
        return InvalidValueError("missing_field", "the field is missing", "give every record the same fields")
    if value is None:
        return InvalidValueError(
            f"empty_{kind}", f"the {kind} are null", f"give a list of {kind}, or leave the record out"
        )
    message = f"expected a list of {kind}, found a {kind_of(value)}, {shown(value)}"
    return InvalidValueError(f"{kind}_not_list", message, LIST_FIX + (f"; {hint}" if hint else ""))


def _no_answers(value: object) -> InvalidValueError:
    if value is MISSING:
        return InvalidValueError("missing_field", "the field is missing", "give every record the same fields")
    return InvalidValueError(
        "answers_malformed",
        f"the answers are {shown(value)}",
        'write them as {"text": ["…"], "answer_start": [0]}, both of one length; empty lists: unanswerable',
    )
