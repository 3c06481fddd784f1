"""Exactly one label a text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch.nn import functional
from transformers import PreTrainedModel

from app.catalog.measures import Measure
from worker.tasks.text_classification.goal import HEAD, Training
from worker.tasks.text_classification.labels import refuse_unknown, refuse_unseen, weight_of_each
from worker.training.data import Batch, Records
from worker.training.encoder import BaseModelFiles, trained_head
from worker.training.failures import UserError
from worker.training.interfaces import Objective, Predictions, Scores
from worker.training.metrics import classification_detail, classification_values
from worker.training.outcomes import PROBABILITIES, Baseline, Outcomes, calibrate

MEASURES = (
    Measure(name="accuracy", form="mean", columns=("right",)),
    Measure(name="f1_macro", form="f1_macro", columns=("truth", "predicted")),
)


@dataclass(frozen=True)
class SingleLabel:
    """Labels sorted, ids in that order. `label_weights` [labels] is None where every label counts the same."""

    label_names: tuple[str, ...]
    label_weights: NDArray[np.float32] | None
    label_smoothing: float
    seed: int

    @classmethod
    def from_records(cls, splits: Mapping[str, Records], training: Training) -> Self:
        """Labels are those of `train`. Raises UserError: one label only, an unseen label, weights for other labels."""
        train = splits["train"]
        counts = Counter(train.column("label"))
        if len(counts) < 2:
            raise UserError(
                "one_label_only",
                f"Every row of the training file {train.file.filename!r} has the same label, "
                f"{next(iter(counts), '')!r}: there is nothing to tell apart. Give rows of at least two labels.",
                "training_file",
            )
        labels = tuple(sorted(counts))
        for split, records in splits.items():
            refuse_unseen(split, records, ([label] for label in records.column("label")), labels)
        weights = _label_weights(training.class_weights, labels, counts)
        return cls(labels, weights, training.label_smoothing, training.seed)

    @classmethod
    def from_artifact(cls, base: BaseModelFiles, records: Records, seed: int) -> Self:
        """Labels are those of the head, in its order."""
        labels = tuple(trained_head(base, HEAD, "text-classification"))
        refuse_unknown(records, records.column("label"), base.id, labels)
        return cls(labels, None, 0.0, seed)

    @property
    def outputs(self) -> list[str]:
        """One for each label."""
        return list(self.label_names)

    @property
    def labels(self) -> list[str] | None:
        """See Goal."""
        return list(self.label_names)

    @property
    def problem_type(self) -> str:
        """See Goal."""
        return "single_label_classification"

    @property
    def settings(self) -> dict[str, Any]:
        """The highest score wins; nothing to choose."""
        return {}

    def adapt(self, model: PreTrainedModel, *, fresh: bool) -> PreTrainedModel:
        """As it is."""
        return model

    def targets(self, records: Records, record: NDArray[Any]) -> NDArray[np.int64]:
        """Ids of the labels."""
        return self._ids(records)[record]

    def weights(self, records: Records) -> NDArray[np.float32] | None:
        """Of each record's label."""
        return None if self.label_weights is None else self.label_weights[self._ids(records)]

    def objective(self, logits: torch.Tensor, batch: Batch) -> Objective:
        """Cross-entropy with label smoothing; also the weighted count of right windows."""
        labels = batch.targets["label"]
        losses = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=self.label_smoothing)
        right = (logits.detach().argmax(dim=-1) == labels) * batch.weight
        predictions = Predictions("softmax", logits, batch.weight)
        return Objective((losses * batch.weight).sum(), {"accuracy": right.sum()}, (predictions,))

    def score(self, records: Records, logits: NDArray[np.float64]) -> Scores:
        """`loss` is the plain mean cross-entropy: no smoothing, no label weights."""
        truth = self._ids(records)
        shifted = logits - logits.max(axis=1, keepdims=True)
        log_likelihood = shifted[np.arange(len(truth)), truth] - np.log(np.exp(shifted).sum(axis=1))
        predicted = logits.argmax(axis=1)
        values = classification_values(truth, predicted) | {"loss": float(-log_likelihood.mean())}
        return Scores(values, classification_detail(truth, predicted, self.label_names, self.seed))

    def outcomes(self, records: Records, logits: NDArray[np.float64]) -> Outcomes:
        """`confidence` is the probability of the label that was chosen."""
        truth, predicted = self._ids(records), logits.argmax(axis=1)
        probabilities: NDArray[np.float64] = softmax(logits, axis=1)
        chosen, right = probabilities.max(axis=1), truth == predicted
        rows: list[dict[str, Any]] = [
            {
                "target": self.label_names[truth[row]],
                "prediction": self.label_names[predicted[row]],
                "correct": bool(right[row]),
                "confidence": float(chosen[row]),
            }
            for row in range(len(truth))
        ]
        if len(self.label_names) <= PROBABILITIES:
            for row, of_labels in zip(rows, probabilities.tolist(), strict=True):
                row["probabilities"] = dict(zip(self.label_names, of_labels, strict=True))
        return Outcomes(
            rows,
            {"truth": truth, "predicted": predicted, "right": right},
            MEASURES,
            classes=self.label_names,
            gold=("truth",),
            right="right",
            calibration=calibrate(chosen, right, "predicted labels"),
        )

    def baseline(self, records: Records) -> Baseline:
        """The label that most of the file's texts have."""
        truth = self._ids(records)
        most = int(np.bincount(truth).argmax())
        values = classification_values(truth, np.full_like(truth, most))
        return Baseline(
            "majority", f"Every text is {self.label_names[most]!r}, the file's most frequent label.", values
        )

    def tuned(self, detail: Mapping[str, Any]) -> Self:
        """Nothing to tune."""
        return self

    def usage(self, call: str) -> str:
        """The label with the highest score."""
        return f"classify({call})"

    def _ids(self, records: Records) -> NDArray[np.int64]:
        ids = {label: index for index, label in enumerate(self.label_names)}
        return np.array([ids[label] for label in records.column("label")], dtype=np.int64)


def _label_weights(
    asked: str | Mapping[str, float] | None, labels: Sequence[str], counts: Mapping[str, int]
) -> NDArray[np.float32] | None:
    """`balanced`: rows / (labels x rows of the label), King & Zeng 2001 as in scikit-learn."""
    if asked is None:
        return None
    if isinstance(asked, str):
        rows = sum(counts.values())
        return np.array([rows / (len(labels) * counts[label]) for label in labels], dtype=np.float32)
    return np.array(weight_of_each(asked, labels), dtype=np.float32)
