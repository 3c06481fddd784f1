"""Stochastic weight averaging (Izmailov et al. 2018): the plain mean of the weights along the end of a run."""

from dataclasses import dataclass
from typing import Self, cast

import torch
from pydantic import BaseModel

from app.catalog.adaptation.swa import SwaOptions
from worker.training.method import Moment
from worker.training.weight_average import WeightAverage, trained


@dataclass
class Swa(WeightAverage):
    """From step `first` on, the average is (w_first + ... + w_step) / (step - first + 1); before, there is none."""

    options: SwaOptions

    @classmethod
    def from_options(cls, options: BaseModel) -> Self:
        """With a job's options."""
        return cls(cast(SwaOptions, options))

    def start_step(self, model: torch.nn.Module, moment: Moment) -> None:
        """What freezing has just thawed was, in each step that is in the average, what it is now."""
        super().start_step(model, moment)
        if moment.step >= self.first(moment):
            for name, parameter in trained(model).items():
                if name not in self.average:
                    self.average[name] = parameter.detach().clone()

    def first(self, moment: Moment) -> int:
        """The first step, counted from 1, whose weights are in the average."""
        return int(self.options.start * moment.total_steps) + 1

    def has_begun(self) -> bool:
        """Whether the step that was last started goes into the average."""
        return self.moment is not None and self.moment.step + 1 >= self.first(self.moment)

    def finish_step(self, model: torch.nn.Module, step: int) -> None:
        """Take the step's weights into the mean."""
        if not self.has_begun():
            return
        assert self.moment is not None
        count = step - self.first(self.moment) + 1
        with torch.no_grad():
            for name, parameter in trained(model).items():
                if name in self.average:
                    self.average[name].lerp_(parameter, 1 / count)
                else:
                    self.average[name] = parameter.detach().clone()
