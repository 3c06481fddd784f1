"""Methods that evaluate, choose and save an average of the weights, while the weights themselves go on training."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from worker.training.checkpoint import CheckpointError
from worker.training.method import Method, Moment


@dataclass
class WeightAverage(Method):
    """`average` is by parameter, empty until there is one. A method says in `finish_step` what goes into it."""

    average: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor], init=False)
    moment: Moment | None = field(default=None, init=False)

    def start_step(self, model: torch.nn.Module, moment: Moment) -> None:
        """Remember where the run stands."""
        self.moment = moment

    def has_begun(self) -> bool:
        """Whether the step that was last started goes into the average."""
        return True

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
        missing = [name for name in trained(model) if name not in tensors]
        if missing and self.has_begun():
            raise CheckpointError(f"the checkpoint has no weights beside the average for {', '.join(missing[:5])}")
        self.average.clear()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in tensors:
                    self.average[name] = parameter.detach().clone()
                    parameter.copy_(tensors[name])


def trained(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters that train, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
