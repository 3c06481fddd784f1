"""Summaries, scored by ROUGE."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Self

from app.catalog.measures import Measure
from app.catalog.summarization import SummarizationOptions
from worker.tasks.sequence_to_sequence.goal import TextStatistics
from worker.training.data import Records
from worker.training.interfaces import Scores
from worker.training.outcomes import Baseline
from worker.training.summary_metrics import (
    RESAMPLES,
    TYPES,
    RougeTokenizer,
    rouge_scores,
    sentence_lines,
    summary_scores,
    tokenizer_for,
)


@dataclass(frozen=True)
class Summaries:
    """See Goal."""

    fields = ("document", "summary")
    languages = (None, None)
    verb = "summarize"

    tokenizer: RougeTokenizer
    seed: int

    @classmethod
    def of(cls, asked: SummarizationOptions, said: Mapping[str, Any], records: Records, seed: int) -> Self:
        """What an artifact's settings have `said`, else what is asked for, or told from the summaries."""
        tokenizer = said.get("rouge_tokenizer", asked.rouge_tokenizer)
        return cls(tokenizer_for(records.column("summary")) if tokenizer == "auto" else tokenizer, seed)

    @property
    def settings(self) -> dict[str, Any]:
        """See Goal."""
        return {"rouge_tokenizer": self.tokenizer}

    def score(self, records: Records, predicted: Sequence[str]) -> Scores:
        """See Goal."""
        found = summary_scores(predicted, _references(records), self.tokenizer, self.seed)
        signature = f"rouge-score:{version('rouge-score')}|tok:{self.tokenizer}|refs:max|sentences:punkt"
        return Scores(
            found.values, {"intervals": found.intervals, "resamples": RESAMPLES, "signatures": {"rouge": signature}}
        )

    def statistics(self, records: Records, predicted: Sequence[str]) -> TextStatistics:
        """See Goal."""
        scores = rouge_scores(predicted, _references(records), self.tokenizer)
        return TextStatistics(
            [dict(zip(TYPES, row, strict=True)) for row in scores.tolist()],
            {name: scores[:, index] for index, name in enumerate(TYPES)},
            tuple(Measure(name=name, form="mean", columns=(name,)) for name in TYPES),
        )

    def baseline(self, records: Records) -> Baseline:
        """The first sentence."""
        first = [sentence_lines(text).split("\n")[0] for text in records.column("document")]
        values = summary_scores(first, _references(records), self.tokenizer, self.seed).values
        return Baseline("lead_1", "Every summary is the first sentence of its text.", values)


def _references(records: Records) -> list[list[str]]:
    """A record without references of its own is compared with its summary."""
    columns = zip(records.column("summary"), records.column("references"), strict=True)
    return [good or [summary] for summary, good in columns]
