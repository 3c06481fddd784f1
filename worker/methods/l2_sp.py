"""L2-SP (Li, Grandvalet & Davoine 2018): a penalty on the distance from the pretrained weights."""

from dataclasses import dataclass, field
from typing import Self, cast

import torch
from pydantic import BaseModel
from transformers import PreTrainedModel

from app.catalog.adaptation.l2_sp import L2SpOptions
from worker.training.data import Batch
from worker.training.interfaces import Objective, Task
from worker.training.method import Inner, Method


@dataclass
class L2Sp(Method):
    """Adds alpha/2 |w - w0|^2 over what was pretrained and beta/2 |v|^2 over the head to the mean loss of a step."""

    options: L2SpOptions
    start: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    head: set[str] = field(default_factory=set[str])

    @classmethod
    def from_options(cls, options: BaseModel) -> Self:
        """With a job's options."""
        return cls(cast(L2SpOptions, options))

    def adapt(self, model: PreTrainedModel, task: Task) -> PreTrainedModel:
        """Remember where everything that trains started."""
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            if task.is_head(name):
                self.head.add(name)
            else:
                self.start[name] = parameter.detach().clone()
        return model

    def objective(self, inner: Inner, model: torch.nn.Module, batch: Batch) -> Objective:
        """With the penalty. A batch has its share of the step's penalty, as it has of the step's examples."""
        objective = inner(model, batch)
        penalty = self.penalty(model) * batch.weight.sum()
        return Objective(objective.loss + penalty, objective.sums | {"l2_sp": penalty.detach()})

    def penalty(self, model: torch.nn.Module) -> torch.Tensor:
        """The penalty, a scalar."""
        parts: list[torch.Tensor] = []
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            if name in self.head:
                parts.append(self.options.beta / 2 * parameter.square().sum())
            elif name in self.start:
                if self.start[name].device != parameter.device:
                    self.start[name] = self.start[name].to(parameter.device)
                parts.append(self.options.alpha / 2 * (parameter - self.start[name]).square().sum())
        return torch.stack(parts).sum()
