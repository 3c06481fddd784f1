"""Ways to write spans of words as tags, told apart and converted to IOB2.

IOB2: B-X begins an entity, I-X goes on. IOB1: I-X does both, B-X parts two that touch. IOBES (BMES, BILOU): the last
word of an entity (E, L) and an entity of one word (S, U) have prefixes of their own.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Scheme = Literal["IOB1", "IOB2", "IOBES", "BMES", "BILOU"]
OUTSIDE = "O"
TAG = re.compile(r"([BIESMLU])[-_](.+)", re.DOTALL)
# By the prefixes that only they have; M stands for I, L for E and U for S.
ENDED: tuple[tuple[Scheme, frozenset[str]], ...] = (
    ("IOBES", frozenset("BIES")),
    ("BMES", frozenset("BMES")),
    ("BILOU", frozenset("BILU")),
)
SAME = {"M": "I", "L": "E", "U": "S"}


class IllegalTagError(Exception):
    """The tag of word number `index` (from 0) cannot stand there."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index
        self.message = message


def is_tag(text: str) -> bool:
    """Whether a text is a tag of any of the schemes."""
    return text == OUTSIDE or TAG.fullmatch(text) is not None


def split(tag: str) -> tuple[str, str]:
    """Prefix and type; those of O are O and nothing. Raises ValueError for what is no tag."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    match = TAG.fullmatch(tag)
    if match is None:
        raise ValueError(tag)
    return match[1], match[2]


@dataclass
class Evidence:
    """What tells the schemes apart, gathered sentence by sentence."""

    prefixes: Counter[str] = field(default_factory=Counter[str])
    begins_with_i: int = 0  # illegal in IOB2
    parts_nothing: int = 0  # a B in a place where IOB1 writes I
    written_otherwise: bool = False  # with an underscore

    def add(self, tags: Sequence[str]) -> None:
        """Take the tags of a sentence. Raises IllegalTagError for what is no tag."""
        before = ""
        for index, tag in enumerate(tags):
            if tag == OUTSIDE:
                before = ""
                continue
            match = TAG.fullmatch(tag)
            if match is None:
                raise IllegalTagError(index, "is no tag")
            prefix, kind = match[1], match[2]
            self.prefixes[prefix] += 1
            self.begins_with_i += prefix == "I" and kind != before
            self.parts_nothing += prefix == "B" and kind != before
            self.written_otherwise = self.written_otherwise or tag[1] == "_"
            before = kind

    def scheme(self) -> Scheme | None:
        """The scheme with the fewest breaches; None where prefixes of several are mixed."""
        found = frozenset(self.prefixes)
        if found <= {"B", "I"}:
            return "IOB1" if self.begins_with_i > self.parts_nothing else "IOB2"
        return next((name for name, prefixes in ENDED if found <= prefixes), None)

    @property
    def is_iob2(self) -> bool:
        """Whether nothing has to be converted."""
        return self.scheme() == "IOB2" and not self.begins_with_i and not self.written_otherwise


def to_iob2(tags: Sequence[str], scheme: Scheme) -> list[str]:
    """The same entities in IOB2. Raises IllegalTagError where the scheme's rules are broken."""
    if scheme == "IOB1":
        return _from_iob1(tags)
    return _from_iob2(tags) if scheme == "IOB2" else _from_ended(tags)


def _from_iob1(tags: Sequence[str]) -> list[str]:
    converted: list[str] = []
    before = ""
    for tag in tags:
        prefix, kind = split(tag)
        converted.append(tag if prefix == OUTSIDE else f"{'I' if prefix == 'I' and kind == before else 'B'}-{kind}")
        before = kind
    return converted


def _from_iob2(tags: Sequence[str]) -> list[str]:
    converted: list[str] = []
    before = ""
    for index, tag in enumerate(tags):
        prefix, kind = split(tag)
        if prefix == "I" and kind != before:
            raise IllegalTagError(index, f"continues nothing: {_after(tags, index)}")
        converted.append(tag if prefix == OUTSIDE else f"{prefix}-{kind}")
        before = kind
    return converted


def _from_ended(tags: Sequence[str]) -> list[str]:
    converted: list[str] = []
    inside = ""
    for index, tag in enumerate(tags):
        prefix, kind = split(tag)
        prefix = SAME.get(prefix, prefix)
        if inside and (prefix in "OBS" or kind != inside):
            raise IllegalTagError(index, f"follows an entity that is not ended: {_after(tags, index)}")
        if not inside and prefix in "IE":
            raise IllegalTagError(index, f"continues nothing: {_after(tags, index)}")
        converted.append(OUTSIDE if prefix == OUTSIDE else f"{'B' if prefix in 'BS' else 'I'}-{kind}")
        inside = kind if prefix in "BI" else ""
    if inside:
        raise IllegalTagError(len(tags) - 1, "is the last tag of the sentence, and its entity is not ended")
    return converted


def _after(tags: Sequence[str], index: int) -> str:
    return f"it follows {tags[index - 1]}" if index else "the sentence begins with it"
