"""What the fields of one record must have in common: as many tags as words, answers that stand in their context."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.catalog.records import RecordField
from app.datasets.problems import shown
from app.datasets.values import InvalidValueError


def check(field: RecordField, value: Any, of: Any) -> None:
    """Raise InvalidValueError where `value` of `field` does not agree with `of`, the value of the field it names."""
    if field.type == "tags" and len(value) != len(of):
        raise InvalidValueError(
            "tag_count",
            f"{len(of):,} words and {len(value):,} tags",
            "give one tag for every word, O for words that belong to nothing",
        )
    if field.type == "answers":
        for text, start in zip(value["text"], value["answer_start"], strict=True):
            stands = of[start : start + len(text)]
            if stands != text:
                raise InvalidValueError("answer_offset", *_misplaced(text, start, stands, of))


def all_agree(fields: Sequence[RecordField], columns: Mapping[str, list[Any]]) -> bool:
    """Whether all records of a batch pass `check`."""
    for field in fields:
        if field.of is None:
            continue
        if field.type == "tags":
            if list(map(len, columns[field.name])) != list(map(len, columns[field.of])):
                return False
            continue
        try:
            for value, of in zip(columns[field.name], columns[field.of], strict=True):
                check(field, value, of)
        except InvalidValueError:
            return False
    return True


def _misplaced(text: str, start: int, stands: str, context: str) -> tuple[str, str]:
    found = context.find(text)
    message = f"the answer {shown(text)} is said to begin at character {start:,}, where the context has {shown(stands)}"
    if found < 0:
        return message, "correct the answer: it stands nowhere in the context"
    return message, f"give the offset in characters, not bytes, from 0: the answer stands at {found:,}"
