"""The types that fields of records may have: how values are judged, what Arrow keeps them as, how much they hold."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pyarrow as pa

from app.catalog.records import FieldType, RecordField
from app.datasets import messages, sequences, values
from app.datasets.values import MISSING, InvalidValueError

ANSWERS = pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int64()))])
MESSAGES = pa.list_(
    pa.struct(
        [
            ("role", pa.string()),
            ("content", pa.string()),
            ("name", pa.string()),
            ("weight", pa.int8()),
            ("tool_calls", pa.string()),
            ("tool_call_id", pa.string()),
        ]
    )
)
NUMBER_CHARACTERS = 8


@dataclass(frozen=True)
class Canonical:
    """How values of one field type become canonical: one at a time, with what is wrong, or many at once.

    `many` answers None where one value is not fine as it stands. `characters` is what a column holds.
    """

    arrow: pa.DataType
    one: Callable[[object], Any]
    many: Callable[[list[Any]], list[Any] | None]
    characters: Callable[[list[Any]], int]


def _of_texts(column: list[str]) -> int:
    return sum(map(len, column))


def _of_lists(column: list[list[str]]) -> int:
    return sum(map(len, chain.from_iterable(column))) + sum(map(len, column))


def _of_some_lists(column: list[list[str] | None]) -> int:
    return _of_lists([values for values in column if values is not None])


def _of_answers(column: list[sequences.Answers]) -> int:
    return sum(len(text) + NUMBER_CHARACTERS for value in column for text in value["text"])


def _of_messages(column: list[list[messages.Message]]) -> int:
    return sum(len(text) for chat in column for message in chat for text in message.values() if isinstance(text, str))


def _each(one: Callable[[object], Any]) -> Callable[[list[Any]], list[Any] | None]:
    """Many values by judging each; None where one is not fine."""

    def many(column: list[Any]) -> list[Any] | None:
        try:
            return list(map(one, column))
        except InvalidValueError:
            return None

    return many


LIST = pa.list_(pa.string())
CANONICAL: dict[FieldType, Canonical] = {
    "id": Canonical(pa.string(), values.identifier, _each(values.identifier), _of_texts),
    "text": Canonical(pa.string(), values.text, values.texts, _of_texts),
    "texts": Canonical(LIST, sequences.texts, sequences.lists_of_texts, _of_some_lists),
    "label": Canonical(pa.string(), values.label, values.labels, _of_texts),
    "number": Canonical(pa.float64(), values.number, values.numbers, lambda column: NUMBER_CHARACTERS * len(column)),
    "labels": Canonical(LIST, sequences.labels, sequences.lists_of_labels, _of_lists),
    "words": Canonical(LIST, sequences.words, sequences.lists_of_words, _of_lists),
    "tags": Canonical(LIST, sequences.tags, sequences.lists_of_tags, _of_lists),
    "extra": Canonical(pa.string(), values.scalar, _each(values.scalar), _of_texts),
    "note": Canonical(pa.string(), values.note, _each(values.note), _of_texts),
    "answers": Canonical(ANSWERS, sequences.answers, _each(sequences.answers), _of_answers),
    "messages": Canonical(MESSAGES, messages.messages, _each(messages.messages), _of_messages),
    "tools": Canonical(pa.string(), messages.tools, _each(messages.tools), _of_texts),
}


def canonical(field: RecordField) -> Canonical:
    """How values of a field are judged. An optional one may be missing, null or, as CSV writes it, empty."""
    kind = CANONICAL[field.type]
    return _optional(kind) if field.optional else kind


def _is_absent(value: object) -> bool:
    return value is None or value is MISSING or value == ""


def _optional(kind: Canonical) -> Canonical:
    def one(value: object) -> Any:
        return None if _is_absent(value) else kind.one(value)

    def many(column: list[Any]) -> list[Any] | None:
        present = [value for value in column if not _is_absent(value)]
        known = kind.many(present) if present else []
        if known is None:
            return None
        following = iter(known)
        return [None if _is_absent(value) else next(following) for value in column]

    def characters(column: list[Any]) -> int:
        return kind.characters([value for value in column if value is not None])

    return Canonical(kind.arrow, one, many, characters)


def as_texts(field: RecordField, column: list[Any]) -> list[str]:
    """Values of a field that is read, each as one text."""
    match field.type:
        case "words":
            return list(map(" ".join, column))
        case "messages":
            return ["\n".join(message["content"] or "" for message in chat) for chat in column]
        case _:
            return ["" if text is None else text for text in column] if field.optional else column
