"""Words that stay as they are, and words that have no synonyms worth the name."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache

from stopwordsiso import stopwords

from worker.augmentation.passages import CHINESE, Word, folded

# What turns a sentence round; also anything that ends in n't, as `ca n't` and `can't`.
NEGATIONS = frozenset(
    re.findall(
        r"[a-z]+",
        """
aint cannot cant couldnt didnt doesnt dont hardly isnt lack lacking lacks neither never no nobody none nor not
nothing nowhere rarely scarcely seldom wasnt without wont wouldnt
""",
    )
)
CHINESE_NEGATION = frozenset("不没沒无無未非勿莫否别別")
# stopwordsiso lists 1,298 words for English, `good` and `best` among them; these have no meaning of their own.
FUNCTION_WORDS = frozenset(
    re.findall(
        r"[a-z]+",
        """
a about above after again against ain all am an and any are as at be because been before being below between both
but by ca can could d did do does doing down during each few for from further had has have having he her here hers
herself him himself his how i if in into is it its itself just ll m ma may me might more most must my myself now o
of off on once only or other our ours ourselves out over own re s same shall she should so some such t than that the
their theirs them themselves then there these they this those through to too under until up us ve very was we were
what when where which while who whom whose why will with would y you your yours yourself yourselves
""",
    )
)


@dataclass(frozen=True)
class Protection:
    """What an operation has to know of words; `own` are those of the caller, folded."""

    own: Collection[str] = frozenset()

    @classmethod
    def of(cls, words: Sequence[str]) -> "Protection":
        """With words of the caller's."""
        return cls(frozenset(map(folded, words)))

    def keeps(self, word: Word, language: str) -> bool:
        """Whether it must neither be replaced nor left out: part of an entity, a number, a negation, a caller's own."""
        if not word.is_free:
            return True
        text = folded(word.text)
        if text in self.own or any(character.isdigit() for character in text):
            return True
        if language == CHINESE:
            return not CHINESE_NEGATION.isdisjoint(text)
        return text in NEGATIONS or text.endswith("n't")

    def has_content(self, word: Word, language: str) -> bool:
        """Whether it may be replaced and means something by itself."""
        if self.keeps(word, language):
            return False
        return folded(word.text) not in _function_words(language)


@cache
def _function_words(language: str) -> Collection[str]:
    return frozenset(stopwords(CHINESE)) if language == CHINESE else FUNCTION_WORDS
