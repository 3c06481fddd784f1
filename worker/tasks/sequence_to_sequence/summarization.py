"""Summaries, scored by ROUGE."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Self

from app.catalog.summarization import SummarizationOptions
from worker.training.data import Records
from worker.training.interfaces import Scores
from worker.training.summary_metrics import RougeTokenizer, summary_scores, tokenizer_for


@dataclass(frozen=True)
class Summaries:
    """See Goal."""

    fields = ("document", "summary")
    languages = (None, None)
    verb = "summarize"

    tokenizer: RougeTokenizer
    seed: int

    @classmethod
    def from_records(cls, asked: SummarizationOptions, train: Records, seed: int) -> Self:
        """What is not said of ROUGE's tokenizer is told from the training file's summaries."""
        tokenizer = asked.rouge_tokenizer
        return cls(tokenizer_for(train.column("summary")) if tokenizer == "auto" else tokenizer, seed)

    def score(self, records: Records, predicted: Sequence[str]) -> Scores:
        """See Goal. A record without references of its own is compared with its summary."""
        summaries, several = records.column("summary"), records.column("references")
        references = [good or [summary] for summary, good in zip(summaries, several, strict=True)]
        found = summary_scores(predicted, references, self.tokenizer, self.seed)
        signature = f"rouge-score:{version('rouge-score')}|tok:{self.tokenizer}|refs:max|sentences:punkt"
        return Scores(found.values, {"intervals": found.intervals, "signatures": {"rouge": signature}})
