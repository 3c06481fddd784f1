"""Translations, scored by BLEU, chrF and TER."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from app.catalog.translation import TranslationOptions
from worker.training.data import Records
from worker.training.interfaces import Scores
from worker.training.translation_metrics import BleuTokenizer, corpus_scores, tokenizer_of


@dataclass(frozen=True)
class Translations:
    """See Goal."""

    fields = ("source", "target")
    verb = "translate"

    languages: tuple[str | None, str | None]
    tokenizer: BleuTokenizer
    seed: int

    @classmethod
    def from_records(cls, asked: TranslationOptions, train: Records, seed: int) -> Self:
        """What is not said of BLEU's tokenizer is told from the training file's targets."""
        tokenizer = asked.bleu_tokenizer
        if tokenizer == "auto":
            tokenizer = tokenizer_of(asked.target_language, train.column("target"))
        return cls((asked.source_language, asked.target_language), tokenizer, seed)

    def score(self, records: Records, predicted: Sequence[str]) -> Scores:
        """See Goal."""
        found = corpus_scores(predicted, records.column("target"), self.tokenizer, self.seed)
        return Scores(found.values, {"intervals": found.intervals, "signatures": found.signatures})
