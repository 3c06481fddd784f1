"""One of the two axes of the engine; the other is `method`. The loop drives both and knows nothing of either.

A task owns records, labels, windows, head, loss, decoding, metrics and what makes its artifact usable. The catalogue
names implementations as `module:Class`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, Self, cast

import torch
from pydantic import BaseModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from app.catalog.tasks import TaskSpec
from worker.protocol import Log
from worker.training.data import Batch, Examples, Records
from worker.training.encoder import BaseModelFiles
from worker.training.outcomes import Baseline, Outcomes


@dataclass(frozen=True)
class Predictions:
    """What a model says of a batch: rows of `logits` [..., outputs], and what each counts in the loss, `weight` [...].

    A row is a distribution over its outputs (`softmax`), one over yes and no for each of them (`sigmoid`), or plain
    numbers in units of the loss (`number`). Rows of padding weigh nothing.
    """

    form: Literal["softmax", "sigmoid", "number"]
    logits: torch.Tensor
    weight: torch.Tensor


@dataclass(frozen=True)
class Objective:
    """One batch's loss: `loss` is the weighted sum over its examples; `sums` are further weighted sums to report.

    `predictions` are what the loss was computed from, for methods that compare them.
    """

    loss: torch.Tensor
    sums: dict[str, torch.Tensor]
    predictions: tuple[Predictions, ...] = ()


@dataclass(frozen=True)
class Scores:
    """Metrics of a split: `values` by the catalogue's names, `detail` the tables that go with them."""

    values: dict[str, float]
    detail: dict[str, Any]


class Task(Protocol):
    """One NLP task on one job's data."""

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
        """Learn labels from `train` and check every split. Raises UserError for data that cannot be trained on."""
        ...

    @classmethod
    def from_artifact(cls, options: BaseModel, base: BaseModelFiles, records: Records, *, seed: int) -> Self:
        """The task as the directory of a trained model records it, to score `records`.

        Labels, thresholds and the like come from the directory, whatever it says beats `options`, and `load_model` then
        keeps its head. Raises UserError: a model without the head (param `model`), records that it cannot be scored on,
        such as those with labels that it does not know (param `file`).
        """
        ...

    @property
    def labels(self) -> list[str] | None:
        """Labels in the order of their ids."""
        ...

    @property
    def head_rate_factor(self) -> float:
        """Factor on the learning rate of the head's parameters when the job does not say."""
        ...

    def is_head(self, parameter: str) -> bool:
        """Whether a parameter, by its name in the model, belongs to the head that this task put on the body."""
        ...

    @property
    def evaluation_rows(self) -> int | None:
        """Most rows that an evaluation during training looks at, where predicting is slow; None: all."""
        ...

    def remarks(self, splits: Mapping[str, Records]) -> list[Log]:
        """What the owner of the data should know although training can go on."""
        ...

    def load_model(self, base: BaseModelFiles, tell: Callable[[Log], None]) -> PreTrainedModel:
        """The pretrained body with this task's head, in fp32. Tells when a head that was there is replaced."""
        ...

    def encode(self, records: Records, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Examples:
        """Records as windows of tokens with targets and weights."""
        ...

    def windows_log(self, records: Records, examples: Examples, max_length: int) -> Log | None:
        """What to tell of records that did not fit into the model's window."""
        ...

    def objective(self, model: torch.nn.Module, batch: Batch) -> Objective:
        """Training loss of a batch."""
        ...

    def predict(self, model: torch.nn.Module, batch: Batch) -> Sequence[Any]:
        """What `score` needs of every window of the batch: anything, as long as it is on the CPU and small."""
        ...

    def score(self, records: Records, examples: Examples, predictions: Sequence[Any]) -> Scores:
        """Metrics of a split; `predictions` are in the order of `examples`. What is tuned, is on `validation`."""
        ...

    def outcomes(self, records: Records, examples: Examples, predictions: Sequence[Any]) -> Outcomes:
        """What was predicted of every record, and the statistics that comparisons draw from; arguments as `score`."""
        ...

    def baseline(self, records: Records) -> Baseline | None:
        """The scores of an answer that needs no model, such as the most frequent label; None where there is none."""
        ...

    def tuned(self, detail: Mapping[str, Any]) -> Self:
        """The task with what `score` tuned on the validation file and left in its `detail`."""
        ...

    def usage(self) -> str:
        """Python for the model card that loads the model from `path/to/this/directory` and uses it."""
        ...

    def add_files(self, directory: Path, max_length: int) -> None:
        """Complete a directory that holds weights, configuration and tokenizer, so that it works without Tailor.

        `max_length` is the window that the model was trained with.
        """
        ...


def task_class(spec: TaskSpec) -> type[Task]:
    """The class a catalogue entry names."""
    return cast("type[Task]", resolve(spec.impl))


def resolve(impl: str) -> Any:
    """What a catalogue entry names as `module:name`."""
    module, _, name = impl.partition(":")
    return getattr(import_module(module), name)
