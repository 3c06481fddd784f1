"""A text as words that may change and everything else, which stays: between words, and in words that have a tag."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import rjieba

CHINESE = "zh"
OUTSIDE = "O"
INSIDE = "I-"  # a word that goes on with the entity of the word before
HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
KANA = re.compile("[\u3040-\u30ff]")
# What the Penn Treebank cuts off a word; alone it means nothing.
CLITIC = re.compile(r"['\u2019](?:s|re|ve|ll|d|m|em|t)", re.IGNORECASE)


@dataclass(frozen=True)
class Word:
    """A word, what stands between it and the word before, and its tag where words have tags."""

    text: str
    before: str
    tag: str = OUTSIDE

    @property
    def is_free(self) -> bool:
        """Whether it may change at all: it belongs to no entity, and is no punctuation."""
        return self.tag == OUTSIDE and any(map(is_letter, self.text)) and not CLITIC.fullmatch(self.text)


@dataclass(frozen=True)
class Passage:
    """Words in their order and what stands behind the last. `is_tagged`: each word is one of the record's tokens."""

    words: tuple[Word, ...]
    after: str
    language: str
    is_tagged: bool

    @property
    def text(self) -> str:
        """All of it."""
        return "".join([*(word.before + word.text for word in self.words), self.after])

    @property
    def glue(self) -> str:
        """What stands between two words that are put side by side."""
        return "" if self.language == CHINESE else " "

    def with_words(self, words: Sequence[Word]) -> "Passage":
        """The same with other words."""
        return replace(self, words=tuple(words))

    def cut(self, phrase: str) -> list[str]:
        """A phrase as words of this passage: its tokens are single characters where the passage's are."""
        if not self.is_tagged:
            return [phrase]
        if self.language != CHINESE:
            return phrase.split()
        by_character = all(len(word.text) == 1 for word in self.words if HAN.search(word.text))
        return list("".join(phrase.split())) if by_character else [phrase]

    def words_of(self, phrase: str, before: str) -> list[Word]:
        """A phrase as new words, the first of them behind `before`."""
        return [Word(text, self.glue if number else before) for number, text in enumerate(self.cut(phrase))]


def passage_of(text: str, asked: str) -> Passage:
    """A text; `asked` is its language or `auto`."""
    language = language_of(text, asked)
    found = list(_chinese_words(text) if language == CHINESE else _spaced_words(text))
    words: list[Word] = []
    for (_, end), (start, next_end) in pairwise([(0, 0), *found]):
        words.append(Word(text[start:next_end], text[end:start]))
    return Passage(tuple(words), text[found[-1][1] :] if found else text, language, is_tagged=False)


def tagged_passage(tokens: Sequence[str], tags: Sequence[str], asked: str) -> Passage:
    """Words with IOB2 tags."""
    language = language_of("".join(tokens), asked)
    glue = "" if language == CHINESE else " "
    words = [
        Word(text, glue if number else "", tag) for number, (text, tag) in enumerate(zip(tokens, tags, strict=True))
    ]
    return Passage(tuple(words), "", language, is_tagged=True)


def language_of(text: str, asked: str) -> str:
    """`zh` where most letters are Chinese characters and none is Japanese, else `en`; what is asked for comes first."""
    if asked != "auto":
        return asked
    letters = sum(map(str.isalpha, text))
    return CHINESE if 2 * len(HAN.findall(text)) > letters and not KANA.search(text) else "en"


def is_letter(character: str) -> bool:
    """Whether words consist of such characters: letters, digits and the marks on them."""
    return character.isalnum() or unicodedata.category(character)[0] == "M"


def folded(text: str) -> str:
    """What words are compared by: without differences of case, width, white space and apostrophes."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'").split())


def _spaced_words(text: str) -> list[tuple[int, int]]:
    """Where words begin and end: from the first to the last letter between two spaces."""
    found: list[tuple[int, int]] = []
    for chunk in re.finditer(r"\S+", text):
        places = [place for place, character in enumerate(chunk[0]) if is_letter(character)]
        if places and not CLITIC.fullmatch(chunk[0]):
            found.append((chunk.start() + places[0], chunk.start() + places[-1] + 1))
    return found


def _chinese_words(text: str) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    start = 0
    for word in rjieba.cut(text):
        if any(map(is_letter, word)):
            found.append((start, start + len(word)))
        start += len(word)
    return found
