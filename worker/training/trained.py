"""A stage trained to its end: the chosen weights, and how good they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from worker.protocol import CHECKPOINTS, Log, Metrics
from worker.training.checkpoint import TrainState
from worker.training.data import Examples, Records
from worker.training.encoder import take_over
from worker.training.evaluation import predict, score
from worker.training.features import Site
from worker.training.interfaces import Task
from worker.training.loop import Engine, LoopSettings, fit, measure_base
from worker.training.optimizer import Rates, adamw
from worker.training.outcomes import Outcomes
from worker.training.quantization import holds_its_place
from worker.training.schedule import warmup_steps
from worker.training.stage import Stage
from worker.training.store import Store

TRAINING_ROWS_IN_METRICS = 1000  # at most this many rows of training metrics a stage


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
    stage.free()  # or it would stay in memory while the stages behind this one train
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
        trained_for=stage.spec.name,
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


def tell_choice(trained: Trained) -> None:
    """Say where nothing was known for choosing."""
    if trained.state.best is None:
        trained.stage.run.emit(
            Log(
                f"There was no validation file, so nothing was known for choosing: the model is that of the last step, "
                f"{trained.stage.offset + trained.state.step}.",
                level="warn",
            )
        )
