"""Easy data augmentation (Wei & Zou 2019): synonyms, insertions, swaps and deletions of words.

A change by a rate is of max(1, floor(rate x words)) places, as in the paper's own code. Unlike there, words in entities
and what is protected stay, and a deletion takes at least one word.
"""

from dataclasses import replace

import numpy as np

from worker.augmentation.lexicon import Match, Synonyms, matches
from worker.augmentation.passages import INSIDE, Passage, Word
from worker.augmentation.protection import Protection

Generator = np.random.Generator


def places(rate: float, passage: Passage) -> int:
    """How many places change."""
    return max(1, int(rate * len(passage.words)))


def replace_synonyms(
    passage: Passage, rate: float, synonyms: Synonyms, protection: Protection, generator: Generator
) -> Passage:
    """Some of the different phrases that have synonyms give way to one, wherever they stand."""
    found = matches(passage, synonyms, protection)
    phrases = list({match.phrase: match for match in found}.values())
    chosen = [phrases[index] for index in generator.permutation(len(phrases))[: places(rate, passage)]]
    instead = {match.phrase: _drawn(match, generator) for match in chosen}
    words = list(passage.words)
    for match in reversed(found):  # from the end, so that places before stay what they are
        if match.phrase in instead:
            first = words[match.start]
            new = passage.words_of(like(first.text, instead[match.phrase]), first.before)
            words[match.start : match.end] = new
    return passage.with_words(words)


def insert(passage: Passage, rate: float, synonyms: Synonyms, protection: Protection, generator: Generator) -> Passage:
    """Synonyms of phrases of the passage, at places outside of entities."""
    found = matches(passage, synonyms, protection)
    for _ in range(places(rate, passage) if found else 0):
        synonym = _drawn(found[generator.integers(len(found))], generator)
        passage = put_in(passage, synonym, generator)
    return passage


def put_in(passage: Passage, phrase: str, generator: Generator) -> Passage:
    """A phrase at a random place that is in no entity."""
    words = list(passage.words)
    open_ = [place for place, word in enumerate(words) if not word.tag.startswith(INSIDE)] + [len(words)]
    place = open_[generator.integers(len(open_))]
    if place == 0:
        new = passage.words_of(phrase, words[0].before)
        words[0] = replace(words[0], before=passage.glue)
    else:
        new = passage.words_of(phrase, passage.glue)
    words[place:place] = new
    return passage.with_words(words)


def swap(passage: Passage, rate: float, generator: Generator) -> Passage:
    """Pairs of free words change places; entities and punctuation stay where they are."""
    words = list(passage.words)
    free = [place for place, word in enumerate(words) if word.is_free]
    for _ in range(places(rate, passage) if len(free) > 1 else 0):
        one, other = (free[index] for index in generator.choice(len(free), 2, replace=False))
        words[one], words[other] = (
            replace(words[one], text=words[other].text),
            replace(words[other], text=words[one].text),
        )
    return passage.with_words(words)


def delete(passage: Passage, rate: float, protection: Protection, generator: Generator) -> Passage:
    """Each word that is not protected goes with a probability; at least one does, and one word at least stays."""
    open_ = [place for place, word in enumerate(passage.words) if not protection.keeps(word, passage.language)]
    if not open_ or len(passage.words) == 1:
        return passage
    gone = {place for place in open_ if generator.random() < rate} or {open_[generator.integers(len(open_))]}
    if len(gone) == len(passage.words):
        gone.discard(open_[generator.integers(len(open_))])
    kept: list[Word] = []
    before: str | None = None  # what stood before words that went
    for place, word in enumerate(passage.words):
        now = word.before if before is None else closed(before, word.before)
        if place in gone:
            before = now
        else:
            kept.append(replace(word, before=now))
            before = None
    after = passage.after if before is None else closed(before, passage.after)
    return replace(passage, words=tuple(kept), after=after)


def closed(before: str, after: str) -> str:
    """What is left between two words when the word between them goes: one space, and all punctuation."""
    if not before.strip():
        return after if after.strip() else min(before, after, key=len)
    if not after.strip():
        return before if after else before.rstrip()
    return before.rstrip() + after


def like(model: str, word: str) -> str:
    """A word with the capitals of the one whose place it takes."""
    if len(model) > 1 and model.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if model[:1].isupper() else word


def _drawn(match: Match, generator: Generator) -> str:
    return match.synonyms[int(generator.integers(len(match.synonyms)))]
