"""Any number of labels a text, none included."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch.nn import functional
from transformers import PreTrainedModel

from app.catalog.measures import Measure
from worker.tasks.text_classification.goal import HEAD, Training, listed
from worker.tasks.text_classification.labels import refuse_unknown, refuse_unseen, weight_of_each
from worker.training.data import Batch, Ragged, Records
from worker.training.encoder import BaseModelFiles, trained_head
from worker.training.failures import UserError
from worker.training.interfaces import Objective, Predictions, Scores
from worker.training.multi_label_metrics import multi_label_detail, multi_label_values
from worker.training.outcomes import PROBABILITIES, Baseline, Outcomes, calibrate
from worker.training.thresholds import UNTUNED, tune_thresholds

MEASURES = (
    Measure(name="f1_micro", form="f1", columns=("hits", "guessed", "gold")),
    Measure(name="accuracy", form="mean", columns=("right",)),
    Measure(name="hamming_loss", form="mean", columns=("wrong_share",), lower_is_better=True),
)
NO_LABEL = -1  # fills up rows of label ids


@dataclass(frozen=True)
class MultiLabel:
    """Labels sorted, ids in that order. A text has the labels whose probability reaches their threshold.

    `label_weights` [2, labels] weigh, in the loss, texts without and with a label; None where all count the same.
    """

    label_names: tuple[str, ...]
    label_weights: NDArray[np.float32] | None
    label_smoothing: float
    seed: int
    thresholds: tuple[float, ...]

    @classmethod
    def from_records(cls, splits: Mapping[str, Records], training: Training) -> Self:
        """Labels are those of `train`. Raises UserError: nothing to tell apart, an unseen label, weights for others."""
        train = splits["train"]
        rows: list[list[str]] = train.column("label")
        counts = Counter(chain.from_iterable(rows))
        labels = tuple(sorted(counts))
        _refuse_nothing_to_tell_apart(train, labels, counts)
        for split, records in splits.items():
            refuse_unseen(split, records, records.column("label"), labels)
        weights = _label_weights(training.class_weights, labels, counts, len(rows))
        return cls(labels, weights, training.label_smoothing, training.seed, (UNTUNED,) * len(labels))

    @classmethod
    def from_artifact(cls, base: BaseModelFiles, records: Records, seed: int) -> Self:
        """Labels are those of the head; a model that names no thresholds gives labels from a half on."""
        labels = tuple(trained_head(base, HEAD, "text-classification"))
        refuse_unknown(records, chain.from_iterable(records.column("label")), base.id, labels)
        tuned: Mapping[str, float] = getattr(base.config, "thresholds", None) or {}
        return cls(labels, None, 0.0, seed, tuple(float(tuned.get(label, UNTUNED)) for label in labels))

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
        return "multi_label_classification"

    @property
    def settings(self) -> dict[str, Any]:
        """The threshold of every label."""
        return {"thresholds": dict(zip(self.label_names, self.thresholds, strict=True))}

    def adapt(self, model: PreTrainedModel, *, fresh: bool) -> PreTrainedModel:
        """As it is."""
        return model

    def targets(self, records: Records, record: NDArray[Any]) -> Ragged:
        """Ids of the labels of each window's text."""
        ids = {label: index for index, label in enumerate(self.label_names)}
        of_records = [[ids[label] for label in labels] for labels in records.column("label")]
        return Ragged.of([of_records[index] for index in record], np.int32, NO_LABEL)

    def weights(self, records: Records) -> None:
        """All the same: labels are weighed, not texts."""
        return

    def objective(self, logits: torch.Tensor, batch: Batch) -> Objective:
        """Binary cross-entropy, the mean over labels; smoothing moves targets towards a half.

        Also the weighted share of labels that are right at the threshold of a half.
        """
        truth = self._dense(batch.targets["label"], logits)
        soft = truth * (1 - self.label_smoothing) + self.label_smoothing / 2
        losses = functional.binary_cross_entropy_with_logits(logits, soft, reduction="none")
        if self.label_weights is not None:
            without, having = torch.from_numpy(self.label_weights).to(logits.device)
            losses = losses * torch.where(truth > 0, having, without)
        right = ((logits.detach() >= 0) == (truth > 0)).float().mean(dim=1)
        sums = {"label_accuracy": (right * batch.weight).sum()}
        predictions = Predictions("sigmoid", logits, batch.weight)
        return Objective((losses.mean(dim=1) * batch.weight).sum(), sums, (predictions,))

    def score(self, records: Records, logits: NDArray[np.float64]) -> Scores:
        """On validation, thresholds are tuned first. `loss` is plain: no smoothing, no weights."""
        truth = self._truth(records)
        probabilities: NDArray[np.float64] = expit(logits)
        thresholds = self.thresholds
        if records.split == "validation":
            thresholds = tune_thresholds(truth, probabilities)
        predicted = probabilities >= np.array(thresholds)
        losses = np.logaddexp(0, logits) - truth * logits
        values = multi_label_values(truth, predicted) | {"loss": float(losses.mean())}
        return Scores(values, multi_label_detail(truth, predicted, self.label_names, thresholds, self.seed))

    def outcomes(self, records: Records, logits: NDArray[np.float64]) -> Outcomes:
        """`confidence` is the lowest probability, over labels, of the decision that was taken."""
        truth = self._truth(records)
        probabilities: NDArray[np.float64] = expit(logits)
        predicted = probabilities >= np.array(self.thresholds)
        of_decisions = np.where(predicted, probabilities, 1 - probabilities)
        every = len(self.label_names) <= PROBABILITIES
        rows: list[dict[str, Any]] = []
        for row, marks in enumerate(truth | predicted):
            shown = range(len(self.label_names)) if every else np.flatnonzero(marks).tolist()
            rows.append(
                {
                    "target": [self.label_names[index] for index in np.flatnonzero(truth[row])],
                    "prediction": [self.label_names[index] for index in np.flatnonzero(predicted[row])],
                    "correct": bool((truth[row] == predicted[row]).all()),
                    "confidence": float(of_decisions[row].min()),
                    "probabilities": {self.label_names[index]: float(probabilities[row, index]) for index in shown},
                }
            )
        statistics = {
            "right": (truth == predicted).all(axis=1),
            "hits": (truth & predicted).sum(axis=1),
            "guessed": predicted.sum(axis=1),
            "gold": truth.sum(axis=1),
            "wrong_share": (truth != predicted).mean(axis=1),
        }
        calibration = calibrate(probabilities.ravel(), truth.ravel(), "probabilities of labels")
        return Outcomes(rows, statistics, MEASURES, gold=("gold",), right="right", calibration=calibration)

    def baseline(self, records: Records) -> Baseline:
        """The set of labels that most of the file's texts have."""
        truth = self._truth(records)
        sets, counts = np.unique(truth, axis=0, return_counts=True)
        most = sets[counts.argmax()]
        names = [self.label_names[index] for index in np.flatnonzero(most)]
        values = multi_label_values(truth, np.broadcast_to(most, truth.shape).copy())
        shown = f"the labels {listed(names)}" if names else "no label"
        return Baseline("majority", f"Every text has {shown}, the file's most frequent set of labels.", values)

    def tuned(self, detail: Mapping[str, Any]) -> Self:
        """With the thresholds of the chosen weights on validation."""
        thresholds: dict[str, float] = detail["thresholds"]
        return replace(self, thresholds=tuple(thresholds[label] for label in self.label_names))

    def usage(self, call: str) -> str:
        """Labels whose score reaches their threshold, which the configuration holds."""
        return (
            f'answers = classify({call}, function_to_apply="sigmoid", top_k=None)\n'
            "thresholds = classify.model.config.thresholds\n"
            '[answer["label"] for answer in answers if answer["score"] >= thresholds[answer["label"]]]'
        )

    def _dense(self, ids: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """[batch, labels] with 1 where the text has the label."""
        count = len(self.label_names)
        truth = torch.zeros(len(ids), count + 1, device=like.device, dtype=like.dtype)
        return truth.scatter_(1, ids.where(ids != NO_LABEL, count), 1.0)[:, :count]

    def _truth(self, records: Records) -> NDArray[np.bool_]:
        ids = {label: index for index, label in enumerate(self.label_names)}
        rows: list[list[str]] = records.column("label")
        truth = np.zeros((len(rows), len(ids)), dtype=np.bool_)
        for row, labels in enumerate(rows):
            truth[row, [ids[label] for label in labels]] = True
        return truth


def _refuse_nothing_to_tell_apart(train: Records, labels: Sequence[str], counts: Mapping[str, int]) -> None:
    name = f"the training file {train.file.filename!r}"
    if not labels:
        raise UserError(
            "no_labels",
            f"No row of {name} has a label: there is nothing to learn. Add rows with labels, or check the `columns` "
            "mapping.",
            "training_file",
        )
    if all(counts[label] == train.table.num_rows for label in labels):
        raise UserError(
            "one_label_only",
            f"Every row of {name} has the same labels, {', '.join(map(repr, labels))}: there is nothing to tell apart. "
            "Add rows that lack one of them.",
            "training_file",
        )


def _label_weights(
    asked: str | Mapping[str, float] | None, labels: Sequence[str], counts: Mapping[str, int], rows: int
) -> NDArray[np.float32] | None:
    """Weights of rows without and with each label. `balanced`: rows / (2 x such rows); a map: of those with it."""
    if asked is None:
        return None
    if isinstance(asked, str):
        having = np.array([counts[label] for label in labels])
        return (rows / (2 * np.maximum([rows - having, having], 1))).astype(np.float32)
    return np.array([[1.0] * len(labels), weight_of_each(asked, labels)], dtype=np.float32)
