"""One fine-tuning job, from plan to artifact. Read top to bottom, this is the recipe."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from app.catalog.hyperparameters import Hyperparameters, ResolvedHyperparameters, TrainingFacts, resolve
from app.catalog.plan import TrainingPlan
from app.catalog.tasks import TASKS
from worker.protocol import CHECKPOINTS, Event, Log, Metrics, Result, Started
from worker.training.adaptation import Adaptation
from worker.training.artifact import Provenance, write_artifact, write_step_metrics
from worker.training.checkpoint import KEPT, TrainState
from worker.training.data import Examples, read_records
from worker.training.device import bound_memory, check_precision, fast_precision, keep_freed_memory, seed_generators
from worker.training.encoder import check_max_length, open_base
from worker.training.evaluation import evaluate
from worker.training.failures import UserError
from worker.training.features import Site
from worker.training.interfaces import Task, task_class
from worker.training.loop import Engine, LoopSettings, Split, fit, measure_base
from worker.training.materials import read_materials
from worker.training.optimizer import Rates, adamw
from worker.training.preprocessing import preprocess
from worker.training.sampler import LengthBuckets
from worker.training.schedule import warmup_steps
from worker.training.store import Store

TRAINING_ROWS_IN_METRICS = 1000  # at most this many rows of training metrics a run
STEP_METRICS = "step_metrics.csv"


def run(plan: TrainingPlan, run_dir: Path, emit: Callable[[Event], None], stop: threading.Event) -> None:
    """Train, choose, score, write. Raises UserError for what the user can mend, StoppedError after `stop`."""
    keep_freed_memory()
    if plan.memory_bytes is not None:
        bound_memory(plan.memory_bytes)
    spec = TASKS[plan.task["type"]]
    variant = spec.variant(plan.task)
    asked = plan.hyperparameters
    files = {"train": plan.train, "validation": plan.validation, "test": plan.test}
    read = {name: read_records(name, file, run_dir) for name, file in files.items() if file is not None}
    preprocessed = preprocess(plan.preprocessing, read, spec, variant, base=run_dir / plan.base, seed=plan.seed)
    splits = dict(preprocessed.splits)
    _tell(preprocessed.logs, emit)
    if asked.early_stopping_patience is not None and "validation" not in splits:
        raise UserError(
            "early_stopping_needs_validation",
            f"early_stopping_patience is {asked.early_stopping_patience}, but the job has no validation file to watch. "
            "Give a validation_file, or leave early_stopping_patience out.",
            "hyperparameters.early_stopping_patience",
        )

    words = any(field.type == "words" for field in variant.fields)
    base = open_base(plan.model, run_dir / plan.base, spec.model_types, words=words)
    task = task_class(spec).from_records(
        spec.options.model_validate(plan.task),
        splits,
        label_smoothing=asked.label_smoothing,
        class_weights=asked.class_weights,
        seed=plan.seed,
    )
    adaptation = Adaptation.of(task, plan.adaptation)
    _tell(task.remarks(splits), emit)
    window = min(base.window, variant.auto_window or base.window)
    max_length = asked.max_length if asked.max_length != "auto" else window
    check_max_length(max_length, base)
    kept = None if plan.resume_from is None else run_dir / plan.resume_from / KEPT
    materials = read_materials(plan, run_dir, base, max_length, kept, stop, emit)
    splits["train"] = adaptation.augment(splits["train"], materials)

    seed_generators(plan.seed)
    model = adaptation.adapt(task.load_model(base, emit))
    if (log := adaptation.log(model)) is not None:
        emit(log)
    encoded = {name: Split(records, task, base.tokenizer, max_length, emit) for name, records in splits.items()}
    watched = _watched(encoded.get("validation"), task.evaluation_rows, plan.seed)
    train = encoded["train"].examples
    chosen = _resolve(asked, train, window, model, task)
    sampler = LengthBuckets(train.lengths, chosen.batch_size, chosen.gradient_accumulation_steps, plan.seed)
    total_steps = chosen.n_epochs * sampler.steps_per_epoch
    if chosen.max_steps is not None:
        total_steps = min(total_steps, chosen.max_steps)

    accelerator = Accelerator(mixed_precision={"fp32": "no"}.get(chosen.precision, chosen.precision))
    model.to(accelerator.device)
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
        sampler=sampler,
        train=encoded["train"],
        validation=watched,
        test_rows=splits["test"].table.num_rows if "test" in splits else 0,
        emit=emit,
        stop=stop,
    )
    settings = LoopSettings(
        total_steps=total_steps,
        warmup_steps=warmup_steps(chosen.warmup_ratio, total_steps),
        scheduler=chosen.lr_scheduler,
        max_grad_norm=chosen.max_grad_norm,
        milestone_interval=chosen.eval_interval,
        checkpoint_interval_s=plan.checkpoint_interval_s,
        log_interval=-(-total_steps // TRAINING_ROWS_IN_METRICS),
        patience=chosen.early_stopping_patience,
        selection_metric=variant.selection_metric,
        lower_is_better=variant.lower_is_better,
    )
    store = Store(
        directory=run_dir / CHECKPOINTS,
        run_dir=run_dir,
        identity=_identity(plan, chosen) | preprocessed.identity,
        base=base,
        task=task,
        max_length=max_length,
        preprocessed=preprocessed,
        adaptation=adaptation,
        steps_per_epoch=sampler.steps_per_epoch,
        total_steps=total_steps,
        model=model,
        optimizer=optimizer,
        scaler=accelerator.scaler,
        emit=emit,
    )
    seen_again = [encoded["train"], *([watched] if watched else [])]
    adaptation.prepare(
        Site(task, prepared, materials, lambda: [s.examples for s in seen_again], accelerator.device, run_dir)
    )
    state = TrainState() if plan.resume_from is None else store.restore(run_dir / plan.resume_from)
    model.train()
    emit(
        Started(
            hyperparameters=chosen.model_dump(),
            total_steps=total_steps,
            device=_device_name(accelerator.device, chosen.precision),
            labels=task.labels,
            resumed_from_step=None if plan.resume_from is None else state.step,
        )
    )
    measure_base(engine, state, wanted=variant.measures_base)
    fit(engine, settings, state, lambda: store.save(state))

    def score(name: Literal["validation", "test"]) -> dict[str, Any]:
        """Scores of the chosen weights on a whole split."""
        split = encoded[name]
        scores = evaluate(final, prepared, accelerator.device, split.records, split.examples, stop, emit)
        epoch = round(best_step / sampler.steps_per_epoch, 4)
        emit(Metrics(name, best_step, epoch, scores.values))
        return scores.values | scores.detail

    adaptation.settle(model)
    final = task if state.best is None else task.tuned(state.best.detail)
    metrics: dict[str, Any] = {}
    best_step = state.step if state.best is None else state.best.step
    if state.best is not None:
        if state.best.step != state.step:
            store.load_evaluated(state.best.step)
        whole = watched is encoded["validation"]
        metrics["validation"] = state.best.values | state.best.detail if whole else score("validation")
    else:
        emit(
            Log(
                f"There was no validation file, so nothing was known for choosing: the model is that of the last step, "
                f"{state.step}.",
                level="warn",
            )
        )
    if "test" in encoded:
        metrics["test"] = score("test")
    metrics |= _before_training(state)
    selected_by = "last step (no validation file)" if state.best is None else f"validation {variant.selection_metric}"
    metrics |= {"best_step": best_step, "selected_by": selected_by}

    provenance = Provenance(
        job_id=plan.job_id,
        model=plan.fine_tuned_model,
        base_model=plan.model,
        task=plan.task,
        adaptation=plan.adaptation,
        seed=plan.seed,
        hyperparameters=chosen.model_dump(),
        files={name: records.file for name, records in splits.items()},
        labels=task.labels,
        headline=variant.headline,
        usage=final.usage(),
        preprocessing=preprocessed,
    )
    artifact, artifact_files = write_artifact(
        run_dir, provenance, metrics, lambda directory: store.write_artifact(directory, state)
    )
    write_step_metrics(run_dir / STEP_METRICS, state.history)
    emit(
        Result(
            metrics=metrics,
            artifact=artifact,
            artifact_files=artifact_files,
            labels=task.labels,
            step_metrics_csv=STEP_METRICS,
            trained_tokens=state.trained_tokens,
        )
    )


def _tell(logs: Sequence[Log], emit: Callable[[Event], None]) -> None:
    for log in logs:
        emit(log)


def _watched(validation: Split | None, rows: int | None, seed: int) -> Split | None:
    """What is evaluated during training: the validation file, or a sample of it where predicting is slow."""
    if validation is None or rows is None or validation.records.table.num_rows <= rows:
        return validation
    return replace(validation, records=validation.records.sample(rows, seed))


def _resolve(
    asked: Hyperparameters, train: Examples, window: int, model: PreTrainedModel, task: Task
) -> ResolvedHyperparameters:
    chosen = resolve(
        asked,
        TrainingFacts(
            training_rows=train.count,
            hidden_size=int(getattr(model.config.get_text_config(), "hidden_size", 768)),
            model_window=window,
            fast_precision=fast_precision(),
            head_rate_factor=task.head_rate_factor,
        ),
    )
    check_precision(chosen.precision)
    return chosen


def _before_training(state: TrainState) -> dict[str, dict[str, float]]:
    """What the base model was worth on the validation file, where that was measured."""
    rows = [row for row in state.history if row["step"] == 0]
    values = {name.removeprefix("valid_"): value for row in rows for name, value in row.items() if "valid_" in name}
    return {"before_training": values} if values else {}


def _identity(plan: TrainingPlan, chosen: ResolvedHyperparameters) -> dict[str, Any]:
    """What must not change between the parts of a run. Batch size may, as long as a step sees the same examples."""
    hyperparameters: Mapping[str, Any] = chosen.model_dump(exclude={"batch_size", "gradient_accumulation_steps"})
    files = {"train": plan.train, "validation": plan.validation, "test": plan.test}
    return {
        "model": plan.model,
        "task": plan.task,
        "adaptation": plan.adaptation,
        "seed": plan.seed,
        "examples_per_step": chosen.batch_size * chosen.gradient_accumulation_steps,
        **{f"{name}_sha256": None if file is None else file.sha256 for name, file in files.items()},
        **hyperparameters,
    }


def _device_name(device: torch.device, precision: str) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({precision})"
    return f"{device.type}, {torch.get_num_threads()} threads ({precision})"
