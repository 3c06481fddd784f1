"""Multi-task learning (Caruana 1997): other tasks' data train the same body, each through a head of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from pydantic import BaseModel
from torch import nn
from transformers import PreTrainedModel

from app.catalog.adaptation.multi_task import MultiTaskOptions, file_key
from worker.training.auxiliary import HEADS, Auxiliary, errors_of, shares
from worker.training.bodies import listening, refuse_frozen
from worker.training.data import Batch, Records
from worker.training.features import Site
from worker.training.interfaces import Objective, Task
from worker.training.materials import Materials
from worker.training.method import Inner, Method, Moment
from worker.training.running import RunningMean

ANNEALED = 0.8  # how far the power falls (Stickland & Murray 2019, section 3.3)
RECENT = 100  # batches of a task that the reported means are over
SMALLEST_WEIGHT = 1e-12  # a batch of windows none of which counts has the loss 0


@dataclass
class MultiTask(Method):
    """Every batch of the job comes with one of an auxiliary task, drawn by (seed, step, batch of the step).

    The other's loss, a mean over its own batch, has the share in the step that the job's batch has. `log_variances` are
    those of the job's task and of the others, in order, where they are learned.
    """

    options: MultiTaskOptions
    materials: Materials | None = None
    body: nn.Module | None = None
    others: list[Auxiliary] = field(default_factory=list[Auxiliary])
    log_variances: nn.ParameterDict | None = None
    squared: tuple[bool, ...] = ()  # which tasks, the job's first, have a squared error
    moment: Moment = field(default_factory=lambda: Moment(0, 1, 0.0))
    batches: int = 0  # of this step, so far
    drawn: list[int] = field(default_factory=list[int])  # batches of each of the others
    means: list[RunningMean] = field(default_factory=list[RunningMean])  # of losses, the job's first

    @classmethod
    def from_options(cls, options: BaseModel) -> Self:
        """With a job's options."""
        asked = cast(MultiTaskOptions, options)
        count = len(asked.tasks)
        return cls(asked, drawn=[0] * count, means=[RunningMean(RECENT) for _ in range(count + 1)])

    def augment(self, train: Records, materials: Materials) -> Records:
        """Nothing is added to the job's own records; the other tasks' files are here."""
        self.materials = materials
        return train

    def adapt(self, model: PreTrainedModel, task: Task) -> PreTrainedModel:
        """Put the other tasks' heads on the body. Raises UserError where data, bodies or freezing do not allow it."""
        assert self.materials is not None
        self.body = model.base_model
        refuse_frozen(self.body, "multi_task")
        files = self.materials.files_of("multi_task")
        for number, asked in enumerate(self.options.tasks):
            with errors_of(f"adaptation.multi_task.tasks.{number}", asked.name):
                records = files[file_key(number)]
                self.others.append(Auxiliary.of(asked.name, asked.task, records, model, self.materials))
        self.squared = tuple(
            one.config.problem_type == "regression" for one in (model, *(other.model for other in self.others))
        )
        if self.options.weights == "uncertainty":
            self.log_variances = nn.ParameterDict(
                {str(number): nn.Parameter(torch.zeros(())) for number in range(len(self.others) + 1)}
            )
        return model

    def modules(self) -> Mapping[str, nn.Module]:
        """The heads, and the variances where they are learned."""
        heads: dict[str, nn.Module] = {f"heads/{other.name}": other.head for other in self.others}
        return heads | ({} if self.log_variances is None else {"log_variances": self.log_variances})

    def prepare(self, site: Site, others: Sequence[Method]) -> None:
        """Have the other tasks' models train, and their buffers where the body is."""
        for other in self.others:
            other.model.to(site.device)  # pyright: ignore[reportArgumentType]
            other.model.train()

    def start_step(self, model: nn.Module, moment: Moment) -> None:
        """Begin to count the step's batches."""
        self.moment, self.batches = moment, 0

    def objective(self, inner: Inner, model: nn.Module, batch: Batch) -> Objective:
        """With the loss of a batch of another task."""
        assert self.body is not None
        with listening(self.body) as heard:
            objective = inner(model, batch)
        number = self._choose()
        other, device, share = self.others[number], batch.weight.device, batch.weight.sum()
        more = other.draw(len(batch.rows), device)
        with heard.precision(device):
            found = other.task.objective(other.model, more)
        mean = found.loss / more.weight.sum().clamp_min(SMALLEST_WEIGHT)
        self.drawn[number] += 1
        self.means[0].add(objective.loss / share.clamp_min(SMALLEST_WEIGHT))
        self.means[number + 1].add(mean)
        added = self.options.tasks[number].weight * self.weighed(number + 1, mean, torch.ones_like(share)) * share
        return Objective(
            self.weighed(0, objective.loss, share) + added,
            objective.sums | {"auxiliary_loss": mean.detach() * share},
        )

    def _choose(self) -> int:
        assert self.materials is not None
        generator = np.random.default_rng((self.materials.seed, self.moment.step, self.batches))
        self.batches += 1
        return int(generator.choice(len(self.others), p=shares(self._windows(), self.power())))

    def _windows(self) -> list[int]:
        return [other.examples.count for other in self.others]

    def power(self) -> float:
        """Of the numbers of windows, to which the tasks' probabilities are proportional in this step."""
        if self.options.sampling == "temperature":
            return 1 / self.options.temperature
        done = self.moment.step / self.moment.total_steps
        return 1 - ANNEALED * done if self.options.sampling == "annealed" else 1.0

    def weighed(self, number: int, loss: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        """A loss divided by its variance v, and log(v) / 2 times its share in the step; without variances, itself.

        A squared error is divided by 2 v (Kendall et al. 2018, eq. 7 and 10).
        """
        if self.log_variances is None:
            return loss
        return self._factor(number) * loss + self.log_variances[str(number)] / 2 * share

    def _factor(self, number: int) -> torch.Tensor:
        assert self.log_variances is not None
        return (-self.log_variances[str(number)]).exp() / (2 if self.squared[number] else 1)

    def tensors(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """How far the other tasks' data were gone through, and the means so far."""
        counts = {"drawn": torch.tensor(self.drawn), "position": torch.tensor([one.position for one in self.others])}
        return counts | {f"mean.{number}": mean.tensor() for number, mean in enumerate(self.means)}

    def restore(self, model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
        """Go on with them."""
        self.drawn = tensors["drawn"].tolist()
        for other, position in zip(self.others, tensors["position"].tolist(), strict=True):
            other.position = position
        for number, mean in enumerate(self.means):
            mean.restore(tensors[f"mean.{number}"])

    def add_files(self, model: PreTrainedModel, directory: Path) -> None:
        """The other tasks' heads, each in a folder of its own: those of the chosen step; `ema` averages none."""
        for other in self.others:
            other.write(directory / HEADS / other.name)

    def report(self) -> dict[str, Any]:
        """What trained how much, and how far it came: losses are means over the last batches of each task."""
        factors = [1.0] * len(self.means)
        if self.log_variances is not None:
            factors = [self._factor(number).item() for number in range(len(self.means))]
        rows = [
            {
                "name": asked.name,
                "task": asked.task.type,
                "windows": windows,
                "batches": drawn,
                "mean_loss": mean.value(),
                "weight": asked.weight * factor,
            }
            for asked, windows, drawn, mean, factor in zip(
                self.options.tasks, self._windows(), self.drawn, self.means[1:], factors[1:], strict=True
            )
        ]
        return {
            "sampling": self.options.sampling,
            "weights": self.options.weights,
            "batches_averaged": RECENT,
            "main": {"mean_loss": self.means[0].value(), "weight": factors[0]},
            "tasks": rows,
        }
