"""A moving average of the weights (Polyak & Juditsky 1992), which is what is evaluated, chosen and saved."""

from dataclasses import dataclass
from typing import Self, cast

import torch
from pydantic import BaseModel

from app.catalog.adaptation.ema import EmaOptions
from worker.training.weight_average import WeightAverage, trained


@dataclass
class Ema(WeightAverage):
    """After each step: average = d average + (1 - d) weights, with d = min(decay, (1 + step) / (10 + step))."""

    options: EmaOptions

    @classmethod
    def from_options(cls, options: BaseModel) -> Self:
        """With a job's options."""
        return cls(cast(EmaOptions, options))

    def finish_step(self, model: torch.nn.Module, step: int) -> None:
        """Move the average. It starts as the weights after the first step."""
        decay = min(self.options.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, parameter in trained(model).items():
                if name in self.average:
                    self.average[name].lerp_(parameter, 1 - decay)
                else:
                    self.average[name] = parameter.detach().clone()
