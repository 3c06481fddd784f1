"""Character spans of a text as IOB2 tags of its words."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from app.datasets.problems import shown
from app.datasets.values import InvalidValueError

ASCII_WORD = re.compile(r"[A-Za-z0-9_]+|[^\sA-Za-z0-9_]")
# Scripts that put no spaces between words: Thai, Lao, Myanmar, Khmer, Chinese and Japanese, with their extensions.
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3040-\u30ff"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003fffd]"
)


@dataclass(frozen=True)
class Span:
    """An entity in a text: characters from `start` to before `end`, counted in code points from 0."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class Aligned:
    """Words of a text with their tags; and spans that ended inside of words, with the text they were widened to."""

    words: list[str]
    tags: list[str]
    widened: list[tuple[Span, str]]


def split_words(text: str) -> list[tuple[int, int]]:
    """Where the words of a text stand: runs of letters, marks and digits, and every other character by itself.

    Characters of scripts without spaces are words of their own, each with its combining marks.
    """
    if text.isascii():
        return [match.span() for match in ASCII_WORD.finditer(text)]
    words: list[tuple[int, int]] = []
    start, joins = 0, False  # whether the next letter belongs to the word at hand
    for place, character in enumerate(text):
        if character.isspace():
            joins = False
        elif unicodedata.category(character)[0] == "M" or character == "\u200d":
            if words and words[-1][1] == place:
                words[-1] = (words[-1][0], place + 1)
            else:
                words.append((place, place + 1))
        elif (character.isalnum() or character == "_") and not UNSPACED.match(character):
            if joins and words[-1][1] == place:
                words[-1] = (start, place + 1)
            else:
                start = place
                words.append((place, place + 1))
            joins = True
        else:
            words.append((place, place + 1))
            joins = False
    return words


def align(text: str, spans: Sequence[Span]) -> Aligned:
    """Raises InvalidValueError for a span that lies outside of the text, holds no word, or shares one with another."""
    places = split_words(text)
    tags = ["O"] * len(places)
    owners: dict[int, Span] = {}
    widened: list[tuple[Span, str]] = []
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        if not 0 <= span.start < span.end <= len(text):
            raise InvalidValueError(
                "span_outside_text",
                f"the span {_named(span)} does not lie in its text of {len(text):,} characters",
                "offsets count characters from 0, and the end is that of the character after the last",
            )
        inside = [index for index, (start, end) in enumerate(places) if start < span.end and end > span.start]
        if not inside:
            raise InvalidValueError(
                "span_without_word",
                f"the span {_named(span)} holds only white space, {shown(text[span.start : span.end])}",
                "remove it, or correct its offsets",
            )
        for index in inside:
            if index in owners:
                other = owners[index]
                raise InvalidValueError(
                    "spans_overlap",
                    f"the spans {_named(other)} {shown(text[other.start : other.end])} and {_named(span)} "
                    f"{shown(text[span.start : span.end])} share the word {shown(text[slice(*places[index])])}",
                    "a word has one tag: keep one of the spans",
                )
            owners[index] = span
            tags[index] = f"{'B' if index == inside[0] else 'I'}-{span.label}"
        start, end = places[inside[0]][0], places[inside[-1]][1]
        if start < span.start or end > span.end:
            widened.append((span, text[start:end]))
    return Aligned([text[start:end] for start, end in places], tags, widened)


def _named(span: Span) -> str:
    return f"{span.start:,} to {span.end:,} ({shown(span.label)})"
