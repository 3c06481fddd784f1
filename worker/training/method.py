"""One way to adapt a model: which parameters train and how fast, what is injected, which further losses take part."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import torch
from pydantic import BaseModel
from transformers import PreTrainedModel

from app.catalog.adaptation.spec import MethodSpec
from worker.training.data import Batch, Records
from worker.training.encoder import BaseModelFiles
from worker.training.features import Site
from worker.training.interfaces import Objective, Task, resolve
from worker.training.materials import Materials

Inner = Callable[[torch.nn.Module, Batch], Objective]


@dataclass(frozen=True)
class Moment:
    """Where a run stands before a step: `step` steps of `total_steps` are done, and `epoch` epochs, with a fraction."""

    step: int
    total_steps: int
    epoch: float


class Method:
    """A method that changes nothing. Each method of the catalogue overrides what it is made of.

    A method keeps the job's options and, once `adapt` was called, what it needs of the pretrained model.
    """

    moves_embeddings: ClassVar[bool] = False  # the loss depends on more than what the body makes of the tokens

    @classmethod
    def from_options(cls, options: BaseModel) -> Self:
        """The method with a job's options."""
        return cls()

    def augment(self, train: Records, materials: Materials) -> Records:
        """The training records as the run shall see them, before they are encoded. Raises UserError."""
        return train

    def opening(self, base: BaseModelFiles) -> BaseModelFiles:
        """The base model with how its weights are to be read. Raises UserError where they cannot be read so."""
        return base

    def adapt(self, model: PreTrainedModel, task: Task) -> PreTrainedModel:
        """Inject and freeze; the model has its pretrained weights. What requires a gradient afterwards trains.

        Raises UserError for options that do not fit this model.
        """
        return model

    def modules(self) -> Mapping[str, torch.nn.Module]:
        """What trains beside the model and is not saved as part of it; asked after `adapt`, always the same modules.

        They train at the rate of the task's head and are in checkpoints without further ado.
        """
        return {}

    def prepare(self, site: Site, others: Sequence["Method"]) -> None:
        """Before the first step, also of a resumed run; `others` are the methods that the job names beside this one."""

    def rate_factor(self, parameter: str) -> float:
        """Factor on the learning rate of a parameter, by its name in the model."""
        return 1.0

    def start_step(self, model: torch.nn.Module, moment: Moment) -> None:
        """Before a step. A function of `moment` alone, so that a resumed run does the same."""

    def objective(self, inner: Inner, model: torch.nn.Module, batch: Batch) -> Objective:
        """The loss of a batch, made of `inner`: the task's, and that of the methods before this one."""
        return inner(model, batch)

    def finish_step(self, model: torch.nn.Module, step: int) -> None:
        """After the optimizer's step; `step` counts from 1."""

    def evaluated(self, model: torch.nn.Module) -> AbstractContextManager[None]:
        """While this is open, the model has the weights that are evaluated and saved."""
        return nullcontext()

    def settle(self, model: torch.nn.Module) -> None:
        """Training is over: leave the evaluated weights in the model for good."""

    def tensors(self, model: torch.nn.Module) -> dict[str, torch.Tensor]:
        """What a checkpoint holds beside the evaluated weights, so that the run can go on; asked outside of them."""
        return {}

    def restore(self, model: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
        """Put `tensors` back. The model has the evaluated weights. Raises CheckpointError naming what is missing."""

    def keep(self, directory: Path) -> None:
        """Leave in a checkpoint what a resumed run had better not compute again; it is in `materials.kept` then."""

    def add_files(self, model: PreTrainedModel, directory: Path) -> None:
        """Put beside a model that was saved what else came of the method."""

    def usage(self, usage: str) -> str:
        """The lines of the model card that load the model, made of those of its task; asked when training is over."""
        return usage

    def report(self) -> dict[str, Any]:
        """What the domain report says of the method, as JSON; asked when training is over."""
        return {}

    def save(self, model: PreTrainedModel, directory: Path) -> bool:
        """Leave the model in `directory` in a form of its own; whether it did. Otherwise it is saved as it is."""
        return False

    def load(self, model: PreTrainedModel, directory: Path) -> bool:
        """Put what `save` left into `model`, exactly and in place; whether it did."""
        return False


def method_class(spec: MethodSpec) -> type[Method]:
    """The class a catalogue entry names."""
    return cast("type[Method]", resolve(spec.impl))
