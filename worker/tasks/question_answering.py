"""Extractive question answering: the span of a context that answers a question, or that there is none."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from pydantic import BaseModel
from transformers import AutoModelForQuestionAnswering, PreTrainedModel, PreTrainedTokenizerBase

from app.catalog.question_answering import QuestionAnsweringOptions
from worker.protocol import Log
from worker.training.answer_usage import USAGE
from worker.training.answers import (
    Normalization,
    answer_values,
    best_threshold,
    bootstrap_intervals,
    compare,
    prevailing,
)
from worker.training.data import Batch, Examples, Records, overlapping_windows
from worker.training.encoder import CLASSIFIERS, BaseModelFiles, load_weights, replaced_head, trained_head
from worker.training.failures import UserError
from worker.training.given_answers import Candidates, answer_outcomes
from worker.training.interfaces import Objective, Predictions, Scores
from worker.training.leakage import find_leakage
from worker.training.metrics import resamples_of
from worker.training.outcomes import Baseline, Outcomes
from worker.training.span_logits import logits_of, losses_of, place_of, shift_of
from worker.training.spans import WindowSpans, as_question, best_spans, encode_questions

HEADS = ("qa_outputs.", "splinter_qass.", *CLASSIFIERS)
SETTINGS = "question_answering.json"
SHOWN_QUESTIONS = 20  # of a split, whose n-best answers stand in its metrics


@dataclass(frozen=True)
class QuestionAnswering:
    """`null_threshold` is None where every question is answered."""

    doc_stride: int
    max_answer_length: int
    n_best: int
    null_threshold: float | None
    tunes: bool
    normalization: Normalization
    seed: int

    @classmethod
    def from_records(
        cls,
        options: BaseModel,
        splits: Mapping[str, Records],
        *,
        label_smoothing: float,
        class_weights: str | Mapping[str, float] | None,
        seed: int,
    ) -> Self:
        """Raises UserError: no answer at all in `train`, parameters of other tasks."""
        asked = cast(QuestionAnsweringOptions, options)
        for name, value, default in (("class_weights", class_weights, None), ("label_smoothing", label_smoothing, 0.0)):
            if value != default:
                raise UserError(
                    f"{name}_not_for_task",
                    f"{name} is {value!r}, but question-answering has places in a text and no labels. Leave it out.",
                    f"hyperparameters.{name}",
                )
        train = splits["train"]
        gold = _gold(train)
        if not any(gold):
            raise UserError(
                "no_answers",
                f"No question of the training file {train.file.filename!r} has an answer: there is nothing to learn. "
                "Give questions with answers.",
                "training_file",
            )
        tunes = asked.null_threshold == "auto" and not all(gold)
        threshold = 0.0 if tunes else None if asked.null_threshold == "auto" else float(asked.null_threshold)
        return cls(
            asked.doc_stride,
            asked.max_answer_length,
            asked.n_best,
            threshold,
            tunes,
            prevailing(gold) if asked.normalization == "auto" else asked.normalization,
            seed,
        )

    @classmethod
    def from_artifact(cls, options: BaseModel, base: BaseModelFiles, records: Records, *, seed: int) -> Self:
        """As the model's own settings say; what they leave out comes from the options, and `auto` from the file."""
        asked = cast(QuestionAnsweringOptions, options)
        if not _has_span_head(base):
            trained_head(base, "ForQuestionAnswering", "question-answering")
        path, gold = base.directory / SETTINGS, _gold(records)
        said: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        told = None if all(gold) else 0.0
        threshold = told if asked.null_threshold == "auto" else float(asked.null_threshold)
        normalization = prevailing(gold) if asked.normalization == "auto" else asked.normalization
        return cls(
            said.get("doc_stride", asked.doc_stride),
            said.get("max_answer_length", asked.max_answer_length),
            said.get("n_best", asked.n_best),
            said.get("null_threshold", threshold),
            False,
            said.get("normalization", normalization),
            seed,
        )

    @property
    def labels(self) -> list[str] | None:
        """There are none."""
        return None

    @property
    def head_rate_factor(self) -> float:
        """A linear head learns well at the body's rate."""
        return 1.0

    def is_head(self, parameter: str) -> bool:
        """What stands beside the body."""
        return parameter.startswith(HEADS)

    @property
    def evaluation_rows(self) -> int | None:
        """A forward pass over all of them is fast."""
        return None

    def remarks(self, splits: Mapping[str, Records]) -> list[Log]:
        """Questions that stand in two splits with the same context, and unanswerable ones that training lacks."""
        logs = find_leakage(splits, _whole_texts)
        for split in ("validation", "test"):
            if split not in splits:
                continue
            unanswerable = sum(not texts for texts in _gold(splits[split]))
            if unanswerable and self.null_threshold is None:
                rows = splits[split].table.num_rows
                message = (
                    f"{unanswerable} of {rows} {split} questions have no answer, but all of the training file have "
                    "one: the model answers every question. Train on unanswerable ones, or give a number as "
                    "null_threshold."
                )
                data = {"code": "unanswerable_not_trained", "split": split, "count": unanswerable}
                logs.append(Log(message, level="warn", data=data))
        if self.tunes and "validation" not in splits:
            logs.append(
                Log(
                    "There is no validation file to tune null_threshold on: it is 0.",
                    level="warn",
                    data={"code": "null_threshold_not_tuned"},
                )
            )
        return logs

    def load_model(self, base: BaseModelFiles, tell: Callable[[Log], None]) -> PreTrainedModel:
        """The body with a span head: the base's own, or a fresh one."""
        model = load_weights(
            base,
            AutoModelForQuestionAnswering,
            num_labels=2,
            id2label={0: "LABEL_0", 1: "LABEL_1"},
            label2id={"LABEL_0": 0, "LABEL_1": 1},
            problem_type=None,
        )
        if (log := replaced_head(base, kept=_has_span_head(base))) is not None:
            tell(log)
        return model

    def encode(self, records: Records, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Examples:
        """Windows of the question and a part of its context."""
        columns = (records.column(name) for name in ("question", "context", "answers"))
        questions = [as_question(*values) for values in zip(*columns, strict=True)]
        return encode_questions(questions, tokenizer, max_length, self.doc_stride)

    def windows_log(self, records: Records, examples: Examples, max_length: int) -> Log | None:
        """Long contexts are read whole, in windows."""
        return overlapping_windows(records, examples, max_length, "questions")

    def objective(self, model: torch.nn.Module, batch: Batch) -> Objective:
        """Mean cross-entropy of the answer's first and last token; also the weighted count of right windows."""
        starts, ends = logits_of(model, batch)
        right = (starts.detach().argmax(dim=-1) == place_of(batch, "start")) & (
            ends.detach().argmax(dim=-1) == place_of(batch, "end")
        )
        return Objective(
            (losses_of(starts, ends, batch) * batch.weight).sum(),
            {"accuracy": (right * batch.weight).sum()},
            tuple(Predictions("softmax", logits, batch.weight / 2) for logits in (starts, ends)),
        )

    def predict(self, model: torch.nn.Module, batch: Batch) -> Sequence[WindowSpans]:
        """The n best spans of every window."""
        starts, ends = logits_of(model, batch)
        losses = losses_of(starts, ends, batch).tolist()
        nulls = place_of(batch, "null")[:, None]
        null = (starts.gather(1, nulls) + ends.gather(1, nulls)).squeeze(1).tolist()
        shifts = shift_of(batch).tolist()
        context = batch.targets["context"].tolist()
        start_rows, end_rows = starts.cpu().numpy(), ends.cpu().numpy()
        begins, stops = batch.targets["begin"].cpu().numpy(), batch.targets["stop"].cpu().numpy()
        found: list[WindowSpans] = []
        for row, (first, count) in enumerate(context):
            at = slice(first + shifts[row], first + shifts[row] + count)
            begin, stop = begins[row, :count], stops[row, :count]
            first_tokens, last_tokens, scores = best_spans(
                start_rows[row, at], end_rows[row, at], begin < stop, self.max_answer_length, self.n_best
            )
            found.append(WindowSpans(begin[first_tokens], stop[last_tokens], scores, null[row], losses[row]))
        return found

    def score(self, records: Records, examples: Examples, predictions: Sequence[WindowSpans]) -> Scores:
        """Spans of a question's windows are put together. `loss` is the mean over windows."""
        candidates = Candidates.of(records, examples, predictions, self.n_best)
        gold = _gold(records)
        threshold = self.null_threshold
        if self.tunes and records.split == "validation":
            every = compare(candidates.best, gold, self.normalization)
            threshold = best_threshold(candidates.differences, every.f1, every.has_answer)
        predicted = candidates.given(threshold)
        found = compare(predicted, gold, self.normalization)
        values = answer_values(found) | {"loss": float(np.mean([prediction.loss for prediction in predictions]))}
        ids, numbers, questions = (records.column(name) for name in ("id", "row", "question"))
        examples_shown = [
            {
                "id": ids[row],
                "row": numbers[row],
                "question": questions[row],
                "answer": predicted[row],
                "gold": gold[row],
                "n_best": candidates.n_best(row, threshold),
            }
            for row in range(min(SHOWN_QUESTIONS, len(gold)))
        ]
        detail = {
            "intervals": bootstrap_intervals(found, self.seed),
            "resamples": resamples_of(len(gold)),
            "questions": len(gold),
            "unanswerable": sum(not texts for texts in gold),
            "null_threshold": threshold,
            "normalization": self.normalization,
            "predictions": examples_shown,
        }
        return Scores(values, detail)

    def outcomes(self, records: Records, examples: Examples, predictions: Sequence[WindowSpans]) -> Outcomes:
        """See answer_outcomes."""
        candidates = Candidates.of(records, examples, predictions, self.n_best)
        gold = _gold(records)
        found = compare(candidates.given(self.null_threshold), gold, self.normalization)
        return answer_outcomes(records, candidates, gold, found, self.null_threshold)

    def baseline(self, records: Records) -> Baseline | None:
        """No answer to any question; None where every question has one."""
        gold = _gold(records)
        if all(gold):
            return None
        values = answer_values(compare([""] * len(gold), gold, self.normalization))
        return Baseline("no_answer", "Every question is left unanswered.", values)

    def tuned(self, detail: Mapping[str, Any]) -> Self:
        """With the threshold that the validation file gave."""
        return replace(self, null_threshold=detail["null_threshold"]) if self.tunes else self

    def usage(self) -> str:
        """Transformers has no pipeline of this task any more; these lines are one."""
        return USAGE

    def add_files(self, directory: Path, max_length: int) -> None:
        """What a program needs to know to answer as the job did."""
        settings = {
            "max_length": max_length,
            "doc_stride": self.doc_stride,
            "max_answer_length": self.max_answer_length,
            "null_threshold": self.null_threshold,
            "n_best": self.n_best,
            "normalization": self.normalization,
        }
        (directory / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", "utf-8")


def _has_span_head(base: BaseModelFiles) -> bool:
    return base.has_head("ForQuestionAnswering", "ForQuestionAnsweringSimple")


def _gold(records: Records) -> list[list[str]]:
    return [answers["text"] for answers in records.column("answers")]


def _whole_texts(records: Records) -> list[str]:
    return list(map("\n".join, zip(records.column("question"), records.column("context"), strict=True)))
