"""What a variant of text classification predicts: its targets, its loss, its decisions and its metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from worker.training.data import Batch, Ragged, Records
from worker.training.encoder import BaseModelFiles
from worker.training.interfaces import Objective, Scores
from worker.training.outcomes import Baseline, Outcomes

HEAD = "ForSequenceClassification"  # how the classes of Transformers end that have the head
LISTED = 10  # labels or rows a message names before it says "and N more"


@dataclass(frozen=True)
class Training:
    """What a job says of training besides its data."""

    label_smoothing: float
    class_weights: str | Mapping[str, float] | None
    seed: int


class Goal(Protocol):
    """One variant on one job's data. The head has one output for each of `outputs`, in that order."""

    @classmethod
    def from_records(cls, splits: Mapping[str, Records], training: Training) -> Self:
        """Learn from `train` and check every split. Raises UserError for data that cannot be trained on."""
        ...

    @classmethod
    def from_artifact(cls, base: BaseModelFiles, records: Records, seed: int) -> Self:
        """As Task.from_artifact."""
        ...

    @property
    def outputs(self) -> list[str]:
        """Names of the head's outputs, for the model's configuration."""
        ...

    @property
    def labels(self) -> list[str] | None:
        """Labels in the order of their ids; None where there are no classes."""
        ...

    @property
    def problem_type(self) -> str:
        """What Transformers calls it."""
        ...

    def adapt(self, model: PreTrainedModel, *, fresh: bool) -> PreTrainedModel:
        """The model, ready to be trained for this goal; `fresh`: its head knows nothing yet."""
        ...

    def targets(self, records: Records, record: NDArray[Any]) -> NDArray[Any] | Ragged:
        """Targets of windows; `record` [windows] says which record each is of."""
        ...

    def weights(self, records: Records) -> NDArray[Any] | None:
        """What records count in the loss; None: the same."""
        ...

    def objective(self, logits: torch.Tensor, batch: Batch) -> Objective:
        """Training loss of a batch; `logits` are [batch, outputs], in fp32."""
        ...

    def score(self, records: Records, logits: NDArray[Any]) -> Scores:
        """Metrics of a split; `logits` are [records, outputs]."""
        ...

    def outcomes(self, records: Records, logits: NDArray[Any]) -> Outcomes:
        """As Task.outcomes; `logits` are [records, outputs]."""
        ...

    def baseline(self, records: Records) -> Baseline | None:
        """As Task.baseline."""
        ...

    def tuned(self, detail: Mapping[str, Any]) -> Self:
        """With the decisions that `score` tuned on validation and left in `detail`."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """What predicting needs besides the model: goes into its configuration."""
        ...

    def usage(self, call: str) -> str:
        """Python that predicts from `call`, the argument of a pipeline named `classify`."""
        ...


def listed(names: Sequence[str], most: int = LISTED) -> str:
    """Quoted names for a message, at most so many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
