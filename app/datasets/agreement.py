"""What the fields of one record must have in common: as many tags as words, answers that stand in their context."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Literal

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
            if not text.strip():
                raise InvalidValueError(
                    "empty_answer",
                    f"an answer is {shown(text)}",
                    'leave it out; a question without an answer has empty lists: {"text": [], "answer_start": []}',
                )


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
    """Message and fix for an answer that does not stand where it is said to."""
    message = f"the answer {shown(text)} is said to begin at character {start:,}, where the context has {shown(stands)}"
    places = _places(text, context) if text else []
    if not places:
        return message, f"correct the answer: it stands nowhere in the context{_near_miss(text, context)}"
    for unit, encoding, width in (("bytes", "utf-8", 1), ("UTF-16 code units", "utf-16-le", 2)):
        for place in places:
            if len(context[:place].encode(encoding)) // width == start:
                return message, (
                    f"count code points from 0, not {unit}, as answer_start {start:,} does: "
                    f"the answer stands at {place:,}"
                )
    nearest = min(places, key=lambda place: abs(place - start))
    also = f", the nearest of {len(places):,} places" if len(places) > 1 else ""
    return message, f"give its offset in code points from 0: the answer stands at {nearest:,}{also}"


def _places(text: str, context: str) -> list[int]:
    places: list[int] = []
    found = context.find(text)
    while found >= 0:
        places.append(found)
        found = context.find(text, found + 1)
    return places


def _near_miss(text: str, context: str) -> str:
    """What would make the answer stand in the context, where it is only a matter of how it is written."""
    if text.strip() and text.strip() in context:
        return " with the white space around it"
    if text.casefold() in context.casefold():
        return " in this case of its letters"
    forms: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
    if any(unicodedata.normalize(form, text) in context for form in forms):
        return " in this Unicode normalization (NFC or NFD) of its letters"
    return ""
