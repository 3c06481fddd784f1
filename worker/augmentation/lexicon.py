"""Synonyms: of the caller's file, or of WordNet where NLTK has its data."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from worker.augmentation.passages import CHINESE, Passage, folded
from worker.augmentation.protection import Protection
from worker.training.data import Records
from worker.training.failures import UserError

LONGEST_IN_WORDNET = 4  # words of a phrase that is looked up
WORDNET_LANGUAGES = {"en": "eng", CHINESE: "cmn"}
RESOURCE = re.compile(r"nltk\.download\('([^']+)'\)")  # what NLTK says is missing; its names have versions


class Synonyms(Protocol):
    """Where synonyms come from."""

    def longest(self, language: str) -> int:
        """Words, or Chinese characters, of the longest phrase that is worth asking for."""
        ...

    def of(self, phrase: str, language: str) -> Sequence[str]:
        """What may stand in the place of a folded phrase, in an order that is always the same; nothing: unknown."""
        ...


@dataclass(frozen=True)
class Lexicon:
    """Pairs of the caller's: synonyms by what they may replace."""

    entries: Mapping[str, Sequence[str]]
    words: int
    characters: int

    @classmethod
    def of_pairs(cls, pairs: Iterable[tuple[str, str]]) -> "Lexicon":
        """Words with what may replace them; the same word twice is two synonyms."""
        entries: dict[str, dict[str, None]] = {}
        for word, synonym in pairs:
            key, value = folded(word), " ".join(synonym.split())
            if key and value and key != folded(value):
                entries.setdefault(key, {})[value] = None
        words = max((key.count(" ") + 1 for key in entries), default=0)
        return cls({key: tuple(found) for key, found in entries.items()}, words, max(map(len, entries), default=0))

    @classmethod
    def of_records(cls, records: Records) -> "Lexicon":
        """The file of the caller. Raises UserError for one without a pair."""
        found = cls.of_pairs(zip(records.column("source"), records.column("target"), strict=True))
        if not found.entries:
            raise UserError(
                "lexicon_empty",
                f"lexicon_file {records.file.file_id} ({records.file.filename}) has no pair of two different words. "
                "Give one pair a row: a word in `source`, what may stand in its place in `target`.",
                "adaptation.augmentation.lexicon_file",
            )
        return found

    def longest(self, language: str) -> int:
        """See Synonyms."""
        return self.characters if language == CHINESE else self.words

    def of(self, phrase: str, language: str) -> Sequence[str]:
        """See Synonyms."""
        return self.entries.get(phrase, ())


class WordNet:
    """Words of all senses of a word, as EDA takes them (Miller 1995; Open Multilingual WordNet for Chinese)."""

    def longest(self, language: str) -> int:
        """See Synonyms."""
        return 8 if language == CHINESE else LONGEST_IN_WORDNET

    def of(self, phrase: str, language: str) -> Sequence[str]:
        """Raises UserError where the data is not installed."""
        return _in_wordnet(phrase, language)


@cache
def _in_wordnet(phrase: str, language: str) -> tuple[str, ...]:
    from nltk.corpus import wordnet  # a second to import, and most jobs need none

    code = WORDNET_LANGUAGES[language]
    reader: Any = wordnet
    try:
        senses = reader.synsets(phrase.replace(" ", "_"), lang=code)
        names = [name for sense in senses for name in sense.lemma_names(code)]
    except LookupError as error:
        missing = RESOURCE.search(str(error))
        raise UserError(
            "lexicon_missing",
            f"augmentation asks for synonyms without a lexicon_file, and this worker has no WordNet for {language!r}. "
            "Name a lexicon_file: one pair of a word and its synonym a row, in `source` and `target`; or install the "
            f"data on the worker: python -m nltk.downloader {missing[1] if missing else 'wordnet'}.",
            "adaptation.augmentation.lexicon_file",
        ) from error
    found = dict.fromkeys(name.replace("_", " ").replace("+", "") for name in names)
    return tuple(name for name in found if folded(name) != phrase)


@dataclass(frozen=True)
class Match:
    """Words `start` to `end` (exclusive) of a passage that have synonyms; `phrase` is what was found, folded."""

    start: int
    end: int
    phrase: str
    synonyms: Sequence[str]


def matches(passage: Passage, synonyms: Synonyms, protection: Protection) -> list[Match]:
    """Phrases with synonyms, in their order and without overlap, the longest first at each place.

    Protected words are never part of one, and a function word by itself is none.
    """
    found: list[Match] = []
    words, language = passage.words, passage.language
    longest = synonyms.longest(language)
    open_ = [not protection.keeps(word, language) for word in words]
    start = 0
    while start < len(words):
        reach = start
        while reach < min(start + longest, len(words)) and open_[reach] and _side_by_side(passage, start, reach):
            reach += 1
        for end in range(reach, start, -1):
            if end == start + 1 and not protection.has_content(words[start], language):
                continue
            phrase = folded(passage.glue.join(word.text for word in words[start:end]))
            if known := synonyms.of(phrase, language):
                found.append(Match(start, end, phrase, known))
                start = end - 1
                break
        start += 1
    return found


def _side_by_side(passage: Passage, start: int, place: int) -> bool:
    """Whether nothing but space stands before the word at `place`, unless it is the first of the phrase."""
    return place == start or not passage.words[place].before.strip()
