"""Translations, scored by BLEU, chrF and TER."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from numpy.typing import NDArray

from app.catalog.measures import Measure
from app.catalog.translation import TranslationOptions
from worker.tasks.sequence_to_sequence.goal import TextStatistics
from worker.training.data import Records
from worker.training.interfaces import Scores
from worker.training.outcomes import Baseline
from worker.training.translation_metrics import (
    RESAMPLES,
    BleuTokenizer,
    corpus_scores,
    sentence_statistics,
    tokenizer_of,
)


@dataclass(frozen=True)
class Translations:
    """See Goal."""

    fields = ("source", "target")
    verb = "translate"

    languages: tuple[str | None, str | None]
    tokenizer: BleuTokenizer
    seed: int

    @classmethod
    def of(cls, asked: TranslationOptions, said: Mapping[str, Any], records: Records, seed: int) -> Self:
        """What an artifact's settings have `said`, else what is asked for, or told from the targets."""
        source, target = (
            said.get("source_language", asked.source_language),
            said.get("target_language", asked.target_language),
        )
        tokenizer = said.get("bleu_tokenizer", asked.bleu_tokenizer)
        if tokenizer == "auto":
            tokenizer = tokenizer_of(target, records.column("target"))
        return cls((source, target), tokenizer, seed)

    @property
    def settings(self) -> dict[str, Any]:
        """See Goal."""
        source, target = self.languages
        return {"source_language": source, "target_language": target, "bleu_tokenizer": self.tokenizer}

    def score(self, records: Records, predicted: Sequence[str]) -> Scores:
        """See Goal."""
        found = corpus_scores(predicted, records.column("target"), self.tokenizer, self.seed)
        return Scores(
            found.values, {"intervals": found.intervals, "resamples": RESAMPLES, "signatures": found.signatures}
        )

    def statistics(self, records: Records, predicted: Sequence[str]) -> TextStatistics:
        """See Goal. A text's own score is its chrF: BLEU says little of single sentences."""
        found = sentence_statistics(predicted, records.column("target"), self.tokenizer)
        columns: dict[str, NDArray[Any]] = {}
        measures: list[Measure] = []
        for name in ("bleu", "chrf"):
            of = {f"{name}_{number}": column for number, column in enumerate(found[name][1].T)}
            columns |= of
            measures.append(Measure(name=name, form=name, columns=tuple(of)))
        if "ter" in found:
            edits, words = found["ter"][1].T
            columns |= {"ter_edits": 100 * edits, "ter_words": words}
            measures.append(Measure(name="ter", form="ratio", columns=("ter_edits", "ter_words"), lower_is_better=True))
        metric, statistics = found["chrf"]
        scores = [{"chrf": float(metric._compute_score_from_stats(row).score)} for row in statistics.tolist()]
        return TextStatistics(scores, columns, tuple(measures))

    def baseline(self, records: Records) -> Baseline:
        """The text itself."""
        copied = corpus_scores(records.column("source"), records.column("target"), self.tokenizer, self.seed)
        return Baseline("copy", "Every text is its own translation.", copied.values)
