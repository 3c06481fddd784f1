"""From spans of windows to one answer a question, and what is told of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.catalog.measures import Measure
from worker.training.answers import Comparison
from worker.training.data import Examples, Records
from worker.training.outcomes import Outcomes
from worker.training.spans import Span, WindowSpans, merge, n_best

MEASURES = (
    Measure(name="f1", form="mean", columns=("f1",)),
    Measure(name="exact_match", form="mean", columns=("exact",)),
)


@dataclass(frozen=True)
class Candidates:
    """Of every question: its n best spans, the best one's text, and by how much the score of no answer exceeds it."""

    contexts: list[str]
    merged: list[tuple[list[Span], float]]
    best: list[str]
    differences: NDArray[np.float64]

    @classmethod
    def of(cls, records: Records, examples: Examples, predictions: Sequence[WindowSpans], count: int) -> "Candidates":
        """Spans of a question's windows are put together; `predictions` are in the order of `examples`."""
        windows: list[list[WindowSpans]] = [[] for _ in range(records.table.num_rows)]
        for record, prediction in zip(examples.record.tolist(), predictions, strict=True):
            windows[record].append(prediction)
        merged = [merge(of_question, count) for of_question in windows]
        contexts: list[str] = records.column("context")
        best = [
            context[spans[0].begin : spans[0].end] if spans else ""
            for context, (spans, _) in zip(contexts, merged, strict=True)
        ]
        differences = np.array([null - spans[0].score if spans else np.inf for spans, null in merged])
        return cls(contexts, merged, best, differences)

    def given(self, threshold: float | None) -> list[str]:
        """The answers that are given; those of questions beyond the threshold are empty."""
        if threshold is None:
            return self.best
        return [text if by <= threshold else "" for text, by in zip(self.best, self.differences, strict=True)]

    def n_best(self, question: int, threshold: float | None) -> list[dict[str, Any]]:
        """The answers to a question with their shares; no answer among them where there is a threshold."""
        spans, null = self.merged[question]
        return n_best(self.contexts[question], spans, None if threshold is None else null)


def answer_outcomes(
    records: Records, candidates: Candidates, gold: Sequence[list[str]], found: Comparison, threshold: float | None
) -> Outcomes:
    """`confidence` is the answer's share among the n best, no answer included where there may be none."""
    rows: list[dict[str, Any]] = []
    ids: list[str | None] = records.column("id")
    for question, answer in enumerate(candidates.given(threshold)):
        same = (entry for entry in candidates.n_best(question, threshold) if entry["text"] == answer)
        given = next(same, None)
        rows.append(
            {
                "id": ids[question],
                "target": gold[question],
                "prediction": answer,
                "correct": bool(found.exact[question]),
                "confidence": given["probability"] if given else None,
                "exact_match": float(found.exact[question]),
                "f1": float(found.f1[question]),
            }
        )
    statistics = {"exact": found.exact, "f1": found.f1, "answerable": found.has_answer}
    return Outcomes(rows, statistics, MEASURES, gold=("answerable",), right="exact")
