"""The task that the engine drives: windows of texts and pairs, a head on the body, the mean over a text's windows."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from app.catalog.text_classification import TextClassificationOptions
from worker.protocol import Log
from worker.tasks.text_classification.goal import HEAD, Goal, Training
from worker.tasks.text_classification.multi_label import MultiLabel
from worker.tasks.text_classification.regression import TARGETS, Regression
from worker.tasks.text_classification.single_label import SingleLabel
from worker.training.classifier import keeps_head, load_classifier
from worker.training.data import Batch, Examples, Records, overlapping_windows, tokenize
from worker.training.encoder import CLASSIFIERS, BaseModelFiles, trained_head
from worker.training.failures import UserError
from worker.training.interfaces import Objective, Scores
from worker.training.leakage import find_leakage
from worker.training.outcomes import Baseline, Outcomes
from worker.training.pairs import tokenize_pairs

GOALS: dict[str | None, type[Goal]] = {
    None: SingleLabel,
    "single_label_classification": SingleLabel,
    "multi_label_classification": MultiLabel,
    "regression": Regression,
}


@dataclass(frozen=True)
class TextClassification:
    """Texts, or pairs of them, and what is to be predicted of each."""

    goal: Goal
    reads_pairs: bool

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
        """See Goal.from_records of the variant that the options name."""
        assert isinstance(options, TextClassificationOptions)
        training = Training(label_smoothing, class_weights, seed)
        goal = GOALS[options.problem_type].from_records(splits, training)
        pairs = any(pair is not None for pair in splits["train"].column("text_pair"))
        return cls(goal, pairs)

    @classmethod
    def from_artifact(cls, options: BaseModel, base: BaseModelFiles, records: Records, *, seed: int) -> Self:
        """See Goal.from_artifact. A model that says what it predicts is not asked for anything else."""
        assert isinstance(options, TextClassificationOptions)
        trained_head(base, HEAD, "text-classification")
        said: str | None = getattr(base.config, "problem_type", None)
        asked = options.problem_type or said
        if said is not None and said != asked:
            raise UserError(
                "model_of_other_variant",
                f"Model {base.id!r} is for {said}, and the file is read for {asked}. Give a file of its kind, or say "
                f"which with the task's option problem_type.",
                "file",
                {"allowed": [said]},
            )
        goal = GOALS[asked].from_artifact(base, records, seed)
        return cls(goal, any(pair is not None for pair in records.column("text_pair")))

    @property
    def labels(self) -> list[str] | None:
        """Labels in the order of their ids."""
        return self.goal.labels

    def remarks(self, splits: Mapping[str, Records]) -> list[Log]:
        """Texts that stand in two splits."""
        return find_leakage(splits, _whole_texts)

    @property
    def head_rate_factor(self) -> float:
        """A linear head learns well at the body's rate."""
        return 1.0

    def is_head(self, parameter: str) -> bool:
        """What stands beside the body."""
        return parameter.startswith(CLASSIFIERS)

    @property
    def evaluation_rows(self) -> int | None:
        """A forward pass over all of them is fast."""
        return None

    def load_model(self, base: BaseModelFiles, tell: Callable[[Log], None]) -> PreTrainedModel:
        """The body with a fresh classification head, but for the outputs that the base's head has: these are kept."""
        model = load_classifier(
            base,
            AutoModelForSequenceClassification,
            HEAD,
            self.goal.outputs,
            tell,
            problem_type=self.goal.problem_type,
        )
        for name in ("thresholds", TARGETS):  # of what the base model was trained for
            if hasattr(model.config, name):
                delattr(model.config, name)
        return self.goal.adapt(model, fresh=not keeps_head(base, HEAD, self.goal.outputs))

    def encode(self, records: Records, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Examples:
        """A window weighs its record's weight divided by the number of its windows: a long text counts once."""
        pairs = records.column("text_pair")
        if any(pair is not None for pair in pairs):
            windows = tokenize_pairs(records.column("text"), pairs, tokenizer, max_length)
        else:
            windows = tokenize(records.column("text"), tokenizer, max_length)
        weight = 1 / windows.windows_of
        of_records = self.goal.weights(records)
        if of_records is not None:
            weight = weight * of_records
        return Examples(
            inputs=windows.inputs,
            targets={"label": self.goal.targets(records, windows.record)},
            weight=weight[windows.record].astype(np.float32),
            record=windows.record,
            pad_left=tokenizer.padding_side == "left",
        )

    def windows_log(self, records: Records, examples: Examples, max_length: int) -> Log | None:
        """Long texts are read whole, in windows."""
        return overlapping_windows(records, examples, max_length)

    def objective(self, model: torch.nn.Module, batch: Batch) -> Objective:
        """The goal's loss."""
        return self.goal.objective(model(**batch.inputs).logits.float(), batch)

    def predict(self, model: torch.nn.Module, batch: Batch) -> Sequence[NDArray[np.float32]]:
        """Logits of every window, [outputs] each."""
        return list(model(**batch.inputs).logits.float().cpu().numpy())

    def score(self, records: Records, examples: Examples, predictions: Sequence[NDArray[np.float32]]) -> Scores:
        """Windows of a text are averaged."""
        return self.goal.score(records, _of_texts(examples, predictions))

    def outcomes(self, records: Records, examples: Examples, predictions: Sequence[NDArray[np.float32]]) -> Outcomes:
        """See Goal.outcomes."""
        return self.goal.outcomes(records, _of_texts(examples, predictions))

    def baseline(self, records: Records) -> Baseline | None:
        """See Goal.baseline."""
        return self.goal.baseline(records)

    def tuned(self, detail: Mapping[str, Any]) -> Self:
        """With the thresholds that validation has chosen, where there are such."""
        return replace(self, goal=self.goal.tuned(detail))

    def usage(self) -> str:
        """The pipeline of the task."""
        call = '{"text": "A text.", "text_pair": "Another."}' if self.reads_pairs else '"A text to classify."'
        return (
            "from transformers import pipeline\n\n"
            'classify = pipeline("text-classification", model="path/to/this/directory")\n'
            f"{self.goal.usage(call)}"
        )

    def add_files(self, directory: Path, max_length: int) -> None:
        """Weights, configuration and tokenizer are enough; what decides goes into the configuration."""
        if settings := self.goal.settings:
            path = directory / "config.json"
            config = json.loads(path.read_text("utf-8")) | settings
            path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _of_texts(examples: Examples, predictions: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Logits of texts [records, outputs]: the mean over the windows of each."""
    windows = np.stack(predictions).astype(np.float64)
    count = np.bincount(examples.record)
    logits = np.zeros((len(count), windows.shape[1]))
    np.add.at(logits, examples.record, windows)
    return logits / count[:, None]


def _whole_texts(records: Records) -> list[str]:
    pairs = zip(records.column("text"), records.column("text_pair"), strict=True)
    return [text if pair is None else f"{text}\n{pair}" for text, pair in pairs]
