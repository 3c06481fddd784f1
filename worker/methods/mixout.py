"""Mixout (Lee, Cho & Kang 2020): dropout towards the pretrained weights instead of towards zero."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Self, cast

import torch
from pydantic import BaseModel
from torch.nn import functional
from transformers import PreTrainedModel

from app.catalog.adaptation.mixout import MixoutOptions
from worker.training.interfaces import Task
from worker.training.layers import layer_of
from worker.training.method import Method


@dataclass
class Mixout(Method):
    """In each training step a random share `p` of the weights of the body's linear layers are the pretrained ones."""

    options: MixoutOptions

    @classmethod
    def from_options(cls, options: BaseModel) -> Self:
        """With a job's options."""
        return cls(cast(MixoutOptions, options))

    def adapt(self, model: PreTrainedModel, task: Task) -> PreTrainedModel:
        """Let the linear layers of the body compute with mixed weights."""
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear) and layer_of(f"{name}.") is not None and module.weight.requires_grad:
                start = [module.weight.detach().clone()]
                module.forward = cast(Any, partial(_forward, module, start, self.options.p))
        return model


def _forward(module: torch.nn.Linear, start: list[torch.Tensor], p: float, values: torch.Tensor) -> torch.Tensor:
    if not module.training:
        return functional.linear(values, module.weight, module.bias)
    if start[0].device != module.weight.device:
        start[0] = start[0].to(module.weight.device)
    return functional.linear(values, mixed(module.weight, start[0], p), module.bias)


def mixed(weight: torch.Tensor, start: torch.Tensor, p: float) -> torch.Tensor:
    """Each element of `weight` is that of `start` with probability `p`; scaled so that the mean is `weight`.

    Equation 5 of the paper: (M start + (1 - M) weight - p start) / (1 - p) with M ~ Bernoulli(p).
    """
    mask = torch.bernoulli(torch.full_like(weight, p))
    return (mask * start + (1 - mask) * weight - p * start) / (1 - p)
