"""One training from a base model to chosen weights. A run is the task's own stage, and those that come before it."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from transformers import PreTrainedModel

from app.catalog.hyperparameters import Hyperparameters, ResolvedHyperparameters, TrainingFacts, resolve
from app.catalog.plan import TrainingPlan
from app.catalog.task_spec import TaskSpec, Variant
from worker.protocol import CHECKPOINTS, Event, Log, Metrics, Progress, StageName
from worker.training.adaptation import Adaptation
from worker.training.checkpoint import TrainState
from worker.training.data import Examples, Records
from worker.training.device import check_precision, fast_precision, seed_generators
from worker.training.encoder import BaseModelFiles, take_over
from worker.training.evaluation import predict, score
from worker.training.features import Site
from worker.training.interfaces import Task
from worker.training.loop import Engine, LoopSettings, Split, fit, measure_base
from worker.training.materials import Materials
from worker.training.optimizer import Rates, adamw
from worker.training.outcomes import Outcomes
from worker.training.preprocessing import Preprocessed
from worker.training.quantization import holds_its_place
from worker.training.sampler import LengthBuckets, Sampler
from worker.training.schedule import warmup_steps
from worker.training.store import Store

TRAINING_ROWS_IN_METRICS = 1000  # at most this many rows of training metrics a stage


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


@dataclass(frozen=True)
class Judged:
    """A split judged by the chosen weights: metrics with their tables, and what became of every window and record."""

    records: Records
    examples: Examples
    predictions: Sequence[Any]
    metrics: dict[str, Any]
    outcomes: Outcomes


@dataclass(frozen=True)
class Trained:
    """A stage that has come to its end. The model has the chosen weights, those of step `best_step`."""

    stage: Stage
    model: PreTrainedModel
    prepared: torch.nn.Module
    device: torch.device
    store: Store
    state: TrainState
    task: Task  # with what was tuned on the validation file
    best_step: int

    def judge(self, name: Literal["validation", "test"]) -> Judged:
        """Scores of the chosen weights on a whole split."""
        stage, split = self.stage, self.stage.splits[name]
        records, examples = split.records, split.examples
        predictions = predict(self.task, self.prepared, self.device, records, examples, stage.run.stop, stage.run.emit)
        scores = score(self.task, records, examples, predictions)
        epoch = round(self.best_step / stage.sampler.steps_per_epoch, 4)
        stage.emit(Metrics(name, self.best_step, epoch, scores.values))
        outcomes = self.task.outcomes(records, examples, predictions)
        return Judged(records, examples, predictions, scores.values | scores.detail, outcomes)

    @property
    def before_training(self) -> dict[str, float] | None:
        """What the base model was worth on the validation file, where that was measured."""
        rows = [row for row in self.state.history if row["step"] == 0]
        values = {name.removeprefix("valid_"): value for row in rows for name, value in row.items() if "valid_" in name}
        return values or None

    @property
    def history(self) -> list[dict[str, float]]:
        """Rows of the step metrics file, with steps of the run; columns of other stages bear their names."""
        own = ("step", "epoch", "learning_rate")
        prefix = "" if self.stage.name is None else f"{self.stage.name}_"
        return [
            {name if name in own else f"{prefix}{name}": value for name, value in row.items()}
            | {"step": row["step"] + self.stage.offset}
            for row in self.state.history
        ]


def train(stage: Stage, state: TrainState, *, weights: Path | None, resume_from: Path | None) -> Trained:
    """Train, and choose the best weights where there is a validation file, else the last.

    `weights` is the model that an earlier stage ended with, to start from; `resume_from` a checkpoint within this
    stage. Raises StoppedError, UserError.
    """
    run, task, adaptation, chosen = stage.run, stage.task, stage.adaptation, stage.chosen
    model = stage.model
    if weights is not None:
        take_over(model, weights)
    model = adaptation.adapt(model)
    if (log := adaptation.log(model)) is not None:
        run.emit(log)
    accelerator = Accelerator(mixed_precision={"fp32": "no"}.get(chosen.precision, chosen.precision))
    if not holds_its_place(model):
        model.to(accelerator.device)
    for module in adaptation.modules().values():
        module.to(accelerator.device)
    rates = Rates(chosen.peak_learning_rate, chosen.peak_head_learning_rate, chosen.weight_decay)
    groups = adaptation.parameter_groups(model, rates)
    optimizer = adamw(groups)
    prepared, prepared_optimizer = accelerator.prepare(model, optimizer)
    engine = Engine(
        accelerator=accelerator,
        model=prepared,
        optimizer=prepared_optimizer,
        groups=groups,
        task=task,
        adaptation=adaptation,
        sampler=stage.sampler,
        train=stage.splits["train"],
        validation=stage.watched,
        test_rows=stage.records["test"].table.num_rows if "test" in stage.records else 0,
        emit=stage.emit,
        stop=run.stop,
    )
    settings = LoopSettings(
        total_steps=stage.total_steps,
        warmup_steps=warmup_steps(chosen.warmup_ratio, stage.total_steps),
        scheduler=chosen.lr_scheduler,
        max_grad_norm=chosen.max_grad_norm,
        milestone_interval=chosen.eval_interval,
        checkpoint_interval_s=run.plan.checkpoint_interval_s,
        log_interval=-(-stage.total_steps // TRAINING_ROWS_IN_METRICS),
        patience=chosen.early_stopping_patience,
        selection_metric=stage.variant.selection_metric,
        lower_is_better=stage.variant.lower_is_better,
    )
    store = Store(
        directory=run.directory / CHECKPOINTS,
        run_dir=run.directory,
        identity=stage.identity,
        offset=stage.offset,
        base=stage.base,
        task=task,
        max_length=stage.max_length,
        preprocessed=run.preprocessed,
        adaptation=adaptation,
        keep=run.keep,
        steps_per_epoch=stage.sampler.steps_per_epoch,
        total_steps=stage.total_steps,
        model=model,
        optimizer=optimizer,
        scaler=accelerator.scaler,
        emit=run.emit,
    )
    seen_again = [stage.splits["train"], *([stage.watched] if stage.watched else [])]
    adaptation.prepare(
        Site(
            task,
            cast(torch.nn.Module, prepared),
            run.materials,
            lambda: [split.examples for split in seen_again],
            accelerator.device,
            run.directory,
            resumed=resume_from is not None,
        )
    )
    if resume_from is not None:
        state = store.restore(resume_from)
    model.train()
    measure_base(engine, state, wanted=stage.variant.measures_base)
    fit(engine, settings, state, lambda: store.save(state))
    adaptation.settle(model)
    if state.best is not None and state.best.step != state.step:
        store.load_evaluated(state.best.step)
    return Trained(
        stage=stage,
        model=model,
        prepared=prepared,
        device=accelerator.device,
        store=store,
        state=state,
        task=task if state.best is None else task.tuned(state.best.detail),
        best_step=state.step if state.best is None else state.best.step,
    )


def _keep_silent(log: Log) -> None:
    """What it would say was said before."""


def tell_choice(trained: Trained) -> None:
    """Say where nothing was known for choosing."""
    if trained.state.best is None:
        trained.stage.run.emit(
            Log(
                f"There was no validation file, so nothing was known for choosing: the model is that of the last step, "
                f"{trained.state.step}.",
                level="warn",
            )
        )
