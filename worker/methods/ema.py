"""A moving average of the weights (Polyak & Juditsky 1992), which is what is evaluated, chosen and saved."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self, cast

import torch
from pydantic import BaseModel

from app.catalog.adaptation.ema import EmaOptions
from worker.training.checkpoint import CheckpointError
from worker.training.method import Method


@dataclass
class Ema(Method):
    """After each step: average = d average + (1 - d) weights, with d = min(decay, (1 + step) / (10 + step))."""

    options: EmaOptions
    average: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])

    @classmethod
    def from_options(cls, options: BaseModel) -> Self:
        """With a job's options."""
        return cls(cast(EmaOptions, options))

    def finish_step(self, model: torch.nn.Module, step: int) -> None:
        """Move the average. It starts as the weights after the first step."""
        decay = min(self.options.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, parameter in _trained(model).items():
                if name in self.average:
                    self.average[name].lerp_(parameter, 1 - decay)
                else:
                    self.average[name] = parameter.detach().clone()

    @contextmanager
    def evaluated(self, model: torch.nn.Module) -> Generator[None]:
        """The averages in place of the weights."""
        self._swap(model)
        try:
            yield
        finally:
            self._swap(model)

    def settle(self, model: torch.nn.Module) -> None:
        """Training is over: the averages take the place of the weights."""
        self._swap(model)
        self.average.clear()

    def _swap(self, model: torch.nn.Module) -> None:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in self.average:
                    kept = parameter.detach().clone()
                    parameter.copy_(self.average[name])
                    self.average[name] = kept

    def tensors(self, model: torch.nn.Module) -> dict[str, torch.Tensor]:
        """The weights themselves: what is saved as the model is their average."""
        return {
            name: parameter.detach().cpu().clone()
            for name, parameter in model.named_parameters()
            if name in self.average
        }

    def restore(self, model: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
        """The model's weights are the average; those of `tensors` go on training."""
        missing = [name for name in _trained(model) if name not in tensors]
        if missing:
            raise CheckpointError(f"the checkpoint has no weights beside the average for {', '.join(missing[:5])}")
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in tensors:
                    self.average[name] = parameter.detach().clone()
                    parameter.copy_(tensors[name])


def _trained(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
