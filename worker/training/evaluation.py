"""A forward pass over a whole split."""

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch

from worker.protocol import Event
from worker.training.data import Examples, Records, collate
from worker.training.failures import UserError
from worker.training.interfaces import Scores, Task
from worker.training.sampler import evaluation_batches
from worker.training.watch import Watch

TOKENS_PER_BATCH = {"cpu": 4096, "cuda": 65536}
SLOWER = 8  # so much smaller are batches where predicting is slow: between them lie the stop and the signs of life


def evaluate(
    task: Task,
    model: torch.nn.Module,
    device: torch.device,
    records: Records,
    examples: Examples,
    stop: threading.Event,
    emit: Callable[[Event], None],
) -> Scores:
    """Scores of the split; leaves the model in training mode. Raises StoppedError as soon as `stop` is set."""
    return score(task, records, examples, predict(task, model, device, records, examples, stop, emit))


def score(task: Task, records: Records, examples: Examples, predictions: Sequence[Any]) -> Scores:
    """Scores of what was predicted of a split. Raises UserError for numbers that are not finite."""
    scores = task.score(records, examples, predictions)
    if broken := [name for name, value in scores.values.items() if not math.isfinite(value)]:
        raise UserError(
            "loss_not_finite",
            f"Evaluation on the {records.split} file gave no finite number for {', '.join(broken)}: the weights have "
            "diverged. Try a lower learning_rate, or precision 'fp32'.",
            "hyperparameters.learning_rate",
        )
    return scores


def predict(
    task: Task,
    model: torch.nn.Module,
    device: torch.device,
    records: Records,
    examples: Examples,
    stop: threading.Event,
    emit: Callable[[Event], None],
    doing: str | None = None,
) -> list[Any]:
    """What `score` needs of every window; leaves the model in training mode. Raises StoppedError once `stop` is set.

    Tells how far it is every second: a long evaluation is progress too. `doing` is what it is called, if not that.
    """
    predictions: list[Any] = [None] * examples.count
    watch = Watch(doing or f"evaluating {records.split}", examples.count, stop, emit)
    model.eval()
    try:
        with torch.inference_mode():
            tokens = TOKENS_PER_BATCH.get(device.type, 16384) // (1 if task.evaluation_rows is None else SLOWER)
            for rows in evaluation_batches(examples.lengths, tokens):
                watch.check()
                for row, prediction in zip(rows, task.predict(model, collate(examples, rows, device)), strict=True):
                    predictions[row] = prediction
                watch.add(len(rows))
    finally:
        model.train()
    return predictions


def rank(metric: str, values: dict[str, float], *, lower_is_better: bool) -> tuple[float, float]:
    """What evaluations are compared by, the greater the better. Ties go to the lower loss."""
    value = values[metric]
    return -value if lower_is_better else value, -values.get("loss", 0.0)
