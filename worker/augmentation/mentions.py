"""Mention replacement (Dai & Adel 2020): an entity gives way to another of its type from the training file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from worker.augmentation.passages import Passage, Word
from worker.training.entities import entities


@dataclass(frozen=True)
class Mentions:
    """The different entities of a file by their types, in the order in which they come."""

    by_type: Mapping[str, Sequence[tuple[str, ...]]]

    @classmethod
    def of(cls, passages: Iterable[Passage]) -> "Mentions":
        """Those of tagged passages."""
        found: dict[str, dict[tuple[str, ...], None]] = {}
        for passage in passages:
            for kind, start, end in entities([word.tag for word in passage.words]):
                found.setdefault(kind, {})[tuple(word.text for word in passage.words[start:end])] = None
        return cls({kind: tuple(mentions) for kind, mentions in found.items()})

    def replace(self, passage: Passage, rate: float, generator: np.random.Generator) -> Passage:
        """Each entity with another of its type is replaced with a probability; at least one is."""
        spans = [
            span for span in entities([word.tag for word in passage.words]) if len(self.by_type.get(span[0], ())) > 1
        ]
        if not spans:
            return passage
        drawn = {number for number in range(len(spans)) if generator.random() < rate}
        words = list(passage.words)
        for number in sorted(drawn or {int(generator.integers(len(spans)))}, reverse=True):
            kind, start, end = spans[number]
            own = tuple(word.text for word in words[start:end])
            others = [mention for mention in self.by_type[kind] if mention != own]
            mention = others[generator.integers(len(others))]
            words[start:end] = [
                Word(text, passage.glue if place else words[start].before, f"{'I' if place else 'B'}-{kind}")
                for place, text in enumerate(mention)
            ]
        return passage.with_words(words)
