"""Full fine-tuning: every parameter trains and nothing is added."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from pydantic import BaseModel
from transformers import PreTrainedModel

from worker.training.data import Batch
from worker.training.encoder import read_weights
from worker.training.interfaces import Objective, Task
from worker.training.optimizer import ParameterGroup, Rates, decay_groups


@dataclass(frozen=True)
class FullFineTuning:
    """The method of a job whose `adaptation` is empty."""

    @classmethod
    def from_options(cls, options: BaseModel) -> Self:
        """There is nothing to choose."""
        return cls()

    def adapt(self, model: PreTrainedModel) -> PreTrainedModel:
        """Every parameter trains."""
        return model.requires_grad_(True)

    def parameter_groups(self, task: Task, model: torch.nn.Module, rates: Rates) -> list[ParameterGroup]:
        """One rate for the body, one for the head."""
        return decay_groups(model, rates, task.is_head)

    def objective(self, task: Task, model: torch.nn.Module, batch: Batch) -> Objective:
        """The task's own loss."""
        return task.objective(model, batch)

    def save(self, model: PreTrainedModel, directory: Path) -> None:
        """The model itself, in fp32."""
        model.save_pretrained(directory)

    def load(self, model: PreTrainedModel, directory: Path) -> None:
        """Every weight."""
        read_weights(model, directory)
