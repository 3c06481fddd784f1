"""A number for each text."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from app.catalog.measures import Measure
from worker.tasks.text_classification.goal import HEAD, LISTED, Training
from worker.training.data import Batch, Records
from worker.training.encoder import BaseModelFiles, trained_head
from worker.training.failures import UserError
from worker.training.interfaces import Objective, Predictions, Scores
from worker.training.outcomes import Baseline, Outcomes
from worker.training.regression_metrics import regression_detail, regression_values
from worker.training.scaled_output import scale_output

TARGETS = "regression_targets"  # what the configuration tells of the numbers that the model was trained on
CORRELATIONS = (
    Measure(name="spearman", form="spearman", columns=("truth", "predicted")),
    Measure(name="pearson", form="pearson", columns=("truth", "predicted")),
    Measure(name="r2", form="r2", columns=("truth", "predicted")),
)
ERRORS = (
    Measure(name="mse", form="mean", columns=("squared",), lower_is_better=True),
    Measure(name="mae", form="mean", columns=("absolute",), lower_is_better=True),
    Measure(name="rmse", form="root_mean", columns=("squared",), lower_is_better=True),
)
LARGEST = 1e30  # its square is still a number in single precision
SMALLEST_SPREAD = 1e-5  # of the largest number: single precision has seven digits


@dataclass(frozen=True)
class Regression:
    """The model is trained on numbers in units of their spread, and gives them in the units of the file.

    `mean` and `standard_deviation` are those of the training file.
    """

    mean: float
    standard_deviation: float
    seed: int
    output: str = "score"

    @classmethod
    def from_records(cls, splits: Mapping[str, Records], training: Training) -> Self:
        """Raises UserError: numbers that are all the same or none, options that need classes."""
        _refuse_options_of_classes(training)
        for split, records in splits.items():
            _check_numbers(split, records)
        numbers = _numbers(splits["train"])
        return cls(float(numbers.mean()), float(numbers.std()), training.seed)

    @classmethod
    def from_artifact(cls, base: BaseModelFiles, records: Records, seed: int) -> Self:
        """The spread of the numbers it was trained on is in the configuration of our models; of others it is 1."""
        outputs = trained_head(base, HEAD, "text-classification")
        if len(outputs) != 1:
            raise UserError(
                "model_of_other_variant",
                f"Model {base.id!r} has {len(outputs)} outputs, and a model for regression has one. Evaluate one that "
                "was trained for regression, or give a file with labels.",
                "model",
            )
        _check_numbers("test", records)
        known: Mapping[str, float] = getattr(base.config, TARGETS, None) or {}
        return cls(known.get("mean", 0.0), known.get("standard_deviation", 1.0), seed, outputs[0])

    @property
    def scale(self) -> float:
        """The spread as a power of two: by these, weights are multiplied and divided without rounding."""
        return 2.0 ** round(math.log2(self.standard_deviation))

    @property
    def outputs(self) -> list[str]:
        """Transformers wants a name for it."""
        return [self.output]

    @property
    def labels(self) -> list[str] | None:
        """There are no classes."""
        return None

    @property
    def problem_type(self) -> str:
        """See Goal."""
        return "regression"

    @property
    def settings(self) -> dict[str, Any]:
        """The number is the model's output; the spread tells the unit of the loss."""
        return {TARGETS: {"mean": self.mean, "standard_deviation": self.standard_deviation}}

    def adapt(self, model: PreTrainedModel, *, fresh: bool) -> PreTrainedModel:
        """An output in the file's units; a fresh head starts at the mean of the training file."""
        scale_output(model, self.scale, start=self.mean if fresh else None)
        return model

    def targets(self, records: Records, record: NDArray[Any]) -> NDArray[np.float32]:
        """The numbers."""
        return _numbers(records)[record].astype(np.float32)

    def weights(self, records: Records) -> None:
        """All the same."""
        return

    def objective(self, logits: torch.Tensor, batch: Batch) -> Objective:
        """Squared error in units of the spread, which keeps gradients alike whatever the numbers are."""
        errors = logits[:, 0] - batch.targets["label"]
        losses = (errors / self.scale) ** 2
        absolute = errors.detach().abs() * batch.weight
        predictions = Predictions("number", logits / self.scale, batch.weight)
        return Objective((losses * batch.weight).sum(), {"mae": absolute.sum()}, (predictions,))

    def score(self, records: Records, logits: NDArray[np.float64]) -> Scores:
        """`loss` is that of training, in units of the spread; all else is in the units of the file."""
        truth, predicted = _numbers(records), logits[:, 0]
        values = regression_values(truth, predicted)
        loss = values["mse"] / self.scale**2
        return Scores(values | {"loss": loss}, regression_detail(truth, predicted, self.seed))

    def outcomes(self, records: Records, logits: NDArray[np.float64]) -> Outcomes:
        """A number has no confidence; `error` is prediction - target."""
        truth, predicted = _numbers(records), logits[:, 0]
        errors = predicted - truth
        rows = [
            {"target": target, "prediction": prediction, "error": error}
            for target, prediction, error in zip(truth.tolist(), predicted.tolist(), errors.tolist(), strict=True)
        ]
        statistics = {"truth": truth, "predicted": predicted, "squared": errors**2, "absolute": np.abs(errors)}
        differ = truth.min() < truth.max()
        return Outcomes(rows, statistics, (CORRELATIONS if differ else ()) + ERRORS, gold=("truth",))

    def baseline(self, records: Records) -> Baseline:
        """The mean of the file's numbers."""
        truth = _numbers(records)
        mean = float(truth.mean())
        values = regression_values(truth, np.full_like(truth, mean))
        return Baseline("mean", f"Every number is {mean:.6g}, the mean of the file.", values)

    def tuned(self, detail: Mapping[str, Any]) -> Self:
        """Nothing to tune."""
        return self

    def usage(self, call: str) -> str:
        """The number itself: no sigmoid, no softmax."""
        return f'classify({call}, function_to_apply="none")["score"]'


def _numbers(records: Records) -> NDArray[np.float64]:
    return np.array(records.column("label"), dtype=np.float64)


def _refuse_options_of_classes(training: Training) -> None:
    for name, given in (
        ("class_weights", training.class_weights is not None),
        ("label_smoothing", training.label_smoothing > 0),
    ):
        if given:
            raise UserError(
                f"{name}_without_classes",
                f"{name} is about classes, and regression predicts a number. Leave {name} out.",
                f"hyperparameters.{name}",
            )


def _check_numbers(split: str, records: Records) -> None:
    numbers, param = _numbers(records), "training_file" if split == "train" else f"{split}_file"
    name = f"The {split} file {records.file.filename!r}"
    rows = np.array(records.column("row"))
    broken = rows[~np.isfinite(numbers)]
    if len(broken):
        more = f" and {len(broken) - LISTED} more" if len(broken) > LISTED else ""
        raise UserError(
            "number_not_finite",
            f"{name} has numbers that are NaN or infinite: rows {', '.join(map(str, broken[:LISTED]))}{more}. "
            "Give every row a finite number, or leave it out.",
            param,
            {"line": int(broken[0])},
        )
    largest = np.abs(numbers).max()
    if largest > LARGEST:
        row = int(rows[np.abs(numbers).argmax()])
        raise UserError(
            "number_too_large",
            f"{name} has the number {largest:g} in row {row}; at most {LARGEST:g} can be computed with. "
            "Give the numbers in another unit, or their logarithm.",
            param,
            {"line": row},
        )
    if split == "test":
        return  # nothing is learned or chosen by it
    spread = numbers.std()
    if spread == 0:
        raise UserError(
            "constant_target",
            f"Every row of the {split} file {records.file.filename!r} has the same number, {numbers[0]:g}: there is "
            "nothing to predict. Check the `columns` mapping, or add rows with other numbers.",
            param,
        )
    if spread < SMALLEST_SPREAD * largest:
        raise UserError(
            "spread_too_small",
            f"{name} has numbers from {numbers.min():.10g} to {numbers.max():.10g}, which single precision hardly "
            f"tells apart. Subtract a constant, such as {numbers.mean():.6g}, from all of them.",
            param,
        )
