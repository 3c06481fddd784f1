"""A number for each text."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from worker.tasks.text_classification.goal import LISTED, Training
from worker.training.data import Batch, Records
from worker.training.failures import UserError
from worker.training.interfaces import Objective, Scores
from worker.training.regression_metrics import regression_detail, regression_values
from worker.training.scaled_output import scale_output

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

    @classmethod
    def from_records(cls, splits: Mapping[str, Records], training: Training) -> Self:
        """Raises UserError: numbers that are all the same or none, options that need classes."""
        _refuse_options_of_classes(training)
        for split, records in splits.items():
            _check_numbers(split, records)
        numbers = _numbers(splits["train"])
        return cls(float(numbers.mean()), float(numbers.std()), training.seed)

    @property
    def scale(self) -> float:
        """The spread as a power of two: by these, weights are multiplied and divided without rounding."""
        return 2.0 ** round(math.log2(self.standard_deviation))

    @property
    def outputs(self) -> list[str]:
        """Transformers wants a name for it."""
        return ["score"]

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
        """The number is the model's output."""
        return {}

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
        return Objective((losses * batch.weight).sum(), {"mae": absolute.sum()})

    def score(self, records: Records, logits: NDArray[np.float64]) -> Scores:
        """`loss` is that of training, in units of the spread; all else is in the units of the file."""
        truth, predicted = _numbers(records), logits[:, 0]
        values = regression_values(truth, predicted)
        loss = values["mse"] / self.scale**2
        return Scores(values | {"loss": loss}, regression_detail(truth, predicted, self.seed))

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
