"""One training from a base model to chosen weights. A run is the task's own stage, and those that come before it."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from app.catalog.hyperparameters import Hyperparameters, ResolvedHyperparameters, TrainingFacts, resolve
from app.catalog.plan import TrainingPlan
from app.catalog.task_spec import TaskSpec, Variant
from worker.protocol import Event, Log, Metrics, Progress, StageName
from worker.training.adaptation import Adaptation
from worker.training.data import Records
from worker.training.device import check_precision, fast_precision, seed_generators
from worker.training.encoder import BaseModelFiles
from worker.training.interfaces import Task
from worker.training.loop import Split
from worker.training.materials import Materials
from worker.training.preprocessing import Preprocessed
from worker.training.sampler import LengthBuckets, Sampler


@dataclass(frozen=True)
class Run:
    """What all stages of a run share."""

    plan: TrainingPlan
    directory: Path
    preprocessed: Preprocessed
    materials: Materials
    keep: Callable[[Path], None]  # leaves in every checkpoint what methods do not want to compute again
    emit: Callable[[Event], None]
    stop: threading.Event


@dataclass(eq=False)
class Stage:
    """What is trained on what. `name` is None for the task's own stage; `offset` steps of the run come before it.

    `asked_steps` overrides what epochs come to. `shape` makes a sampler of the training windows' lengths.
    """

    name: StageName | None
    spec: TaskSpec
    variant: Variant
    base: BaseModelFiles
    task: Task
    adaptation: Adaptation
    records: Mapping[str, Records]
    asked: Hyperparameters
    max_length: int
    run: Run
    asked_steps: int | None = None
    shape: Callable[[NDArray[np.int64], ResolvedHyperparameters], Sampler] | None = None
    offset: int = 0
    later_examples: int = 0  # training examples of the stages behind this one
    steps_of_run: int = 0
    encoded: Mapping[str, Split] = field(default_factory=dict[str, Split])  # splits that another stage has as well
    tells: bool = True  # nothing is told twice

    @cached_property
    def model(self) -> PreTrainedModel:
        """The base model with the task's head. Loading it may complete the tokenizer, so that comes first."""
        seed_generators(self.run.plan.seed)
        tell = self.run.emit if self.tells else _keep_silent
        self.tells = False
        return self.task.load_model(self.adaptation.opening(self.base), tell)

    def free(self) -> None:
        """Let go of the model until it is the stage's turn."""
        self.__dict__.pop("model", None)

    @cached_property
    def splits(self) -> dict[str, Split]:
        """The records as the model sees them, once they are asked for."""
        assert self.model is not None
        return {
            name: self.encoded.get(name)
            or Split(records, self.task, self.base.tokenizer, self.max_length, self.run.emit)
            for name, records in self.records.items()
        }

    @cached_property
    def chosen(self) -> ResolvedHyperparameters:
        """Every `auto` as a number."""
        chosen = resolve(
            self.asked,
            TrainingFacts(
                training_rows=self.splits["train"].examples.count,
                hidden_size=int(getattr(self.base.config.get_text_config(), "hidden_size", 768)),
                model_window=min(self.base.window, self.variant.auto_window or self.base.window),
                fast_precision=fast_precision(),
                head_rate_factor=self.task.head_rate_factor,
            ),
        )
        check_precision(chosen.precision)
        return chosen

    @cached_property
    def sampler(self) -> Sampler:
        """Batches of windows of similar length, unless the stage has a way of its own."""
        lengths, chosen = self.splits["train"].examples.lengths, self.chosen
        if self.shape is not None:
            return self.shape(lengths, chosen)
        return LengthBuckets(lengths, chosen.batch_size, chosen.gradient_accumulation_steps, self.run.plan.seed)

    @cached_property
    def total_steps(self) -> int:
        """Optimizer steps of this stage."""
        if self.asked_steps is not None:
            return self.asked_steps
        steps = self.chosen.n_epochs * self.sampler.steps_per_epoch
        return steps if self.chosen.max_steps is None else min(steps, self.chosen.max_steps)

    @cached_property
    def watched(self) -> Split | None:
        """What is evaluated during training: the validation file, or a sample of it where predicting is slow."""
        validation, rows = self.splits.get("validation"), self.task.evaluation_rows
        if validation is None or rows is None or validation.records.table.num_rows <= rows:
            return validation
        return replace(validation, records=validation.records.sample(rows, self.run.plan.seed))

    @property
    def examples_to_train(self) -> int:
        """Training examples that all its steps see together."""
        return self.total_steps * self.splits["train"].examples.count // self.sampler.steps_per_epoch

    def emit(self, event: Event) -> None:
        """Tell it as an event of the run: steps count from its first stage on, and the stage is named."""
        if isinstance(event, Metrics):
            event = replace(event, step=event.step + self.offset, stage=self.name)
        elif isinstance(event, Progress):
            event = replace(
                event,
                step=event.step + self.offset,
                total_steps=self.steps_of_run,
                eta_s=self._eta_s(event),
                stage=self.name,
            )
        self.run.emit(event)

    def _eta_s(self, progress: Progress) -> float | None:
        if progress.eta_s is None or not self.later_examples or not progress.examples_per_second:
            return progress.eta_s
        return progress.eta_s + self.later_examples / progress.examples_per_second

    @property
    def identity(self) -> dict[str, Any]:
        """What must not change between the parts of a run. Batch size may, as long as a step sees as many examples."""
        plan, chosen = self.run.plan, self.chosen
        hyperparameters: Mapping[str, Any] = chosen.model_dump(exclude={"batch_size", "gradient_accumulation_steps"})
        files = {"train": plan.train, "validation": plan.validation, "test": plan.test}
        further = plan.method_files | {f"target.{place}": file for place, file in enumerate(plan.target)}
        return {
            "model": plan.model,
            "task": plan.task,
            "adaptation": plan.adaptation,
            "seed": plan.seed,
            "examples_per_step": chosen.batch_size * chosen.gradient_accumulation_steps,
            **{f"{name}_sha256": None if file is None else file.sha256 for name, file in files.items()},
            **{f"{name}_sha256": file.sha256 for name, file in further.items()},
            **hyperparameters,
            **self.run.preprocessed.identity,
        }


def _keep_silent(log: Log) -> None:
    """What it would say was said before."""
