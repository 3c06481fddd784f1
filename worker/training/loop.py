"""The training loop: steps, milestones (evaluation and checkpoint), early stopping, a bounded stop. It owns no task."""

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from app.catalog.hyperparameters import Scheduler
from worker.protocol import Event, Metrics, Progress
from worker.training.adaptation import Adaptation
from worker.training.checkpoint import Best, TrainState
from worker.training.data import Examples, Records, collate
from worker.training.evaluation import evaluate, rank
from worker.training.failures import StoppedError, UserError
from worker.training.interfaces import Scores, Task
from worker.training.method import Moment
from worker.training.optimizer import ParameterGroup
from worker.training.pace import Pace, now
from worker.training.sampler import Sampler
from worker.training.schedule import learning_rate

PROGRESS_INTERVAL_S = 1.0


@dataclass(frozen=True)
class Split:
    """Records of a split and, once asked for, their windows: a run's first step need not wait for the test file."""

    records: Records
    task: Task
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    emit: Callable[[Event], None]

    @cached_property
    def examples(self) -> Examples:
        """The records as the model sees them."""
        examples = self.task.encode(self.records, self.tokenizer, self.max_length)
        log = self.task.windows_log(self.records, examples, self.max_length)
        if log is not None:
            self.emit(log)
        return examples


@dataclass(frozen=True)
class LoopSettings:
    """What the loop is told; every number is final."""

    total_steps: int
    warmup_steps: int
    scheduler: Scheduler
    max_grad_norm: float
    milestone_interval: int  # steps between evaluations and checkpoints
    checkpoint_interval_s: float
    log_interval: int  # steps between rows of training metrics
    patience: int | None
    selection_metric: str
    lower_is_better: bool


@dataclass(frozen=True)
class Engine:
    """The parts the loop drives. `groups` are the optimizer's parameter groups in order."""

    accelerator: Accelerator
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    groups: list[ParameterGroup]
    task: Task
    adaptation: Adaptation
    sampler: Sampler
    train: Split
    validation: Split | None
    test_rows: int
    emit: Callable[[Event], None]
    stop: threading.Event
    pace: Pace = field(default_factory=Pace)


@dataclass
class Pending:
    """What is still to be read, told or saved. A step's numbers stay on the device: reading them waits for it."""

    names: list[str] = field(default_factory=list)
    values: list[torch.Tensor] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    examples: int = 0
    began: float = field(default_factory=now)
    saved_at: float = field(default_factory=now)
    reported_at: float = -math.inf


def fit(engine: Engine, settings: LoopSettings, state: TrainState, write_checkpoint: Callable[[], None]) -> None:
    """Train from `state` to the last step or to the end of patience. `write_checkpoint` saves the present state.

    Raises StoppedError after a checkpoint when `stop` is set, UserError when the loss is not a number.
    """
    steps = _steps(engine.sampler, state.step)
    pending = Pending()
    try:
        while True:
            if _milestone_due(settings, state):
                _settle(engine, state, pending)
                _milestone(engine, settings, state)
                _save(engine, state, pending, write_checkpoint)
            if state.step >= settings.total_steps or _out_of_patience(settings, state):
                engine.emit(progress(engine, settings, state))
                return
            if engine.stop.is_set():
                raise StoppedError
            if state.step > 0 and now() - pending.saved_at >= settings.checkpoint_interval_s:
                _save(engine, state, pending, write_checkpoint)
            _step(engine, settings, state, next(steps), pending)
            _report(engine, settings, state, pending)
    except StoppedError:
        if state.step > 0:  # before the first step there is nothing to keep
            _save(engine, state, pending, write_checkpoint)
        raise


def _save(engine: Engine, state: TrainState, pending: Pending, write_checkpoint: Callable[[], None]) -> None:
    _settle(engine, state, pending)
    began = now()
    write_checkpoint()
    pending.saved_at = pending.began = now()
    engine.pace.saved(pending.saved_at - began)


def _report(engine: Engine, settings: LoopSettings, state: TrainState, pending: Pending) -> None:
    log = state.step % settings.log_interval == 0 or state.step == settings.total_steps
    report = now() - pending.reported_at >= PROGRESS_INTERVAL_S
    if log or report:
        _settle(engine, state, pending)
    if log:
        _log(engine, state)
    if report:
        engine.emit(progress(engine, settings, state))
        pending.reported_at = now()


def progress(engine: Engine, settings: LoopSettings, state: TrainState) -> Progress:
    """Where the run stands, and how long what remains will take."""
    steps_left = settings.total_steps - state.step
    interval = settings.milestone_interval
    milestones_left = -(-settings.total_steps // interval) - state.step // interval
    validation_rows = 0 if engine.validation is None else engine.validation.records.table.num_rows
    return Progress(
        step=state.step,
        total_steps=settings.total_steps,
        epoch=_epoch(engine, state),
        examples_per_second=round(engine.pace.examples_per_second(), 2),
        eta_s=engine.pace.eta_s(
            steps_left * engine.train.examples.count // engine.sampler.steps_per_epoch,
            milestones_left * validation_rows + engine.test_rows,
            milestones_left,
        ),
        trained_tokens=state.trained_tokens,
    )


def _steps(sampler: Sampler, position: int) -> Iterator[list[NDArray[np.int64]]]:
    while True:
        epoch, done = divmod(position, sampler.steps_per_epoch)
        steps = sampler.epoch(epoch)[done:]
        yield from steps
        position += len(steps)


def _step(
    engine: Engine, settings: LoopSettings, state: TrainState, batches: list[NDArray[np.int64]], pending: Pending
) -> None:
    """One optimizer step: the weighted mean loss over all examples of all its batches."""
    device, train = engine.accelerator.device, engine.train.examples
    moment = Moment(state.step, settings.total_steps, state.step / engine.sampler.steps_per_epoch)
    engine.adaptation.start_step(engine.model, moment)
    rates = [
        learning_rate(settings.scheduler, spec.peak_rate, state.step, settings.warmup_steps, settings.total_steps)
        for spec in engine.groups
    ]
    for group, rate in zip(engine.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    rows = np.concatenate(batches)
    total_weight = float(train.weight[rows].sum(dtype=np.float64))
    sums: dict[str, torch.Tensor] = {}
    epoch = state.step // engine.sampler.steps_per_epoch
    for batch_rows in batches:
        objective = engine.adaptation.objective(engine.model, collate(train, batch_rows, device, epoch))
        loss = objective.loss / total_weight
        engine.accelerator.backward(loss)
        for name, value in [("loss", loss.detach()), *((k, v / total_weight) for k, v in objective.sums.items())]:
            sums[name] = sums[name] + value if name in sums else value
    trained = list(engine.adaptation.parameters(engine.model).values())
    norm = engine.accelerator.clip_grad_norm_(trained, settings.max_grad_norm)
    engine.optimizer.step()
    engine.optimizer.zero_grad()
    state.step += 1
    engine.adaptation.finish_step(engine.model, state.step)
    state.trained_tokens += int(train.lengths[rows].sum())
    pending.names = [*sums, "grad_norm"]
    pending.values.append(torch.stack([*sums.values(), torch.as_tensor(norm)]))
    pending.rates.append(rates[0])
    pending.examples += len(rows)


def _settle(engine: Engine, state: TrainState, pending: Pending) -> None:
    """Read the numbers of the steps since the last time. Raises UserError at the first loss that is not a number."""
    if not pending.values:
        return
    first = state.step - len(pending.values) + 1
    for step, values, rate in zip(
        range(first, state.step + 1), torch.stack(pending.values).tolist(), pending.rates, strict=True
    ):
        row = dict(zip(pending.names, values, strict=True))
        if not math.isfinite(row["loss"]):
            raise UserError(
                "loss_not_finite",
                f"The training loss is {row['loss']} at step {step} with learning rate {rate:.3g}. Try a lower "
                "learning_rate, more warmup_ratio, a smaller max_grad_norm, or precision 'fp32'.",
                "hyperparameters.learning_rate",
                {"step": step, "learning_rate": rate},
            )
        state.unlogged.append(row | {"learning_rate": rate})
    engine.pace.trained(now() - pending.began, pending.examples)
    pending.values.clear()
    pending.rates.clear()
    pending.examples, pending.began = 0, now()


def _log(engine: Engine, state: TrainState) -> None:
    """Mean of the steps since the last row."""
    mean = {name: float(np.mean([row[name] for row in state.unlogged])) for name in state.unlogged[0]}
    values = {name: value for name, value in mean.items() if math.isfinite(value)}  # fp16 skips steps without a norm
    state.unlogged.clear()
    epoch = _epoch(engine, state)
    engine.emit(Metrics("train", state.step, epoch, values))
    row = {"step": float(state.step), "epoch": epoch, "learning_rate": values.pop("learning_rate")}
    state.history.append(row | {f"train_{name}": value for name, value in values.items()})


def _milestone_due(settings: LoopSettings, state: TrainState) -> bool:
    at_interval = state.step > 0 and state.step % settings.milestone_interval == 0
    return (at_interval or state.step == settings.total_steps) and state.milestone != state.step


def _milestone(engine: Engine, settings: LoopSettings, state: TrainState) -> None:
    """Evaluate where there is a validation file, and keep the best. Ties go to the lower loss, then to the earlier."""
    if engine.validation is not None:
        scores = _evaluate(engine, engine.validation, state)
        if state.best is None or _beats(settings, scores.values, state.best.values):
            state.best = Best(state.step, scores.values, scores.detail)
            state.evaluations_without_gain = 0
        else:
            state.evaluations_without_gain += 1
    state.milestone = state.step


def measure_base(engine: Engine, state: TrainState, *, wanted: bool) -> None:
    """Tell what the weights are worth before the first step. They are not among those that are chosen from."""
    if wanted and engine.validation is not None and state.step == 0:
        _evaluate(engine, engine.validation, state)


def _evaluate(engine: Engine, split: Split, state: TrainState) -> Scores:
    began = now()
    device = engine.accelerator.device
    with engine.adaptation.evaluated(engine.model):
        scores = evaluate(engine.task, engine.model, device, split.records, split.examples, engine.stop, engine.emit)
    engine.pace.evaluated(now() - began, split.examples.count)
    epoch = _epoch(engine, state)
    engine.emit(Metrics("validation", state.step, epoch, scores.values))
    row = {f"valid_{name}": value for name, value in scores.values.items()}
    state.history.append({"step": float(state.step), "epoch": epoch} | row)
    return scores


def _beats(settings: LoopSettings, values: dict[str, float], best: dict[str, float]) -> bool:
    name, lower = settings.selection_metric, settings.lower_is_better
    return rank(name, values, lower_is_better=lower) > rank(name, best, lower_is_better=lower)


def _out_of_patience(settings: LoopSettings, state: TrainState) -> bool:
    return settings.patience is not None and state.evaluations_without_gain >= settings.patience


def _epoch(engine: Engine, state: TrainState) -> float:
    return round(state.step / engine.sampler.steps_per_epoch, 4)
