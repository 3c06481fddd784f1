"""One fine-tuning job, from plan to artifact. Read top to bottom, this is the recipe."""

import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState

from app.catalog.plan import TrainingPlan
from app.catalog.tasks import TASKS
from worker.domain_report.report import card_section, make, of_run, save, wanted
from worker.protocol import Event, Log, Result, Started
from worker.training.adaptation import Adaptation
from worker.training.artifact import Provenance, write_artifact, write_step_metrics
from worker.training.checkpoint import KEPT, TrainState, read_state
from worker.training.data import read_records
from worker.training.device import bound_memory, keep_freed_memory
from worker.training.encoder import check_max_length, open_base
from worker.training.failures import UserError
from worker.training.interfaces import task_class
from worker.training.materials import read_materials
from worker.training.preprocessing import preprocess
from worker.training.stage import Run, Stage
from worker.training.stages import before, close, in_order, weights_for
from worker.training.trained import Judged, Trained, tell_choice, train

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

    resume_from = None if plan.resume_from is None else run_dir / plan.resume_from
    state = TrainState() if resume_from is None else read_state(resume_from)
    kept = None if resume_from is None else resume_from / KEPT
    materials = read_materials(plan, run_dir, base, max_length, kept, stop, emit)
    shared = Run(plan, run_dir, preprocessed, materials, adaptation.keep, emit, stop)
    original, splits["train"] = splits["train"], adaptation.augment(splits["train"], materials)
    main = Stage(None, spec, variant, base, task, adaptation, splits, asked, max_length, shared)
    stages = in_order([*before(main, original), main])
    emit(
        Started(
            hyperparameters=main.chosen.model_dump(),
            total_steps=main.steps_of_run,
            device=_device_name(cast(torch.device, PartialState().device), main.chosen.precision),
            labels=task.labels,
            resumed_from_step=None if resume_from is None else state.offset + state.step,
        )
    )

    for stage, following in pairwise(stages):
        if stage.name not in state.finished:
            within = resume_from if state.step else None
            state = close(train(stage, state, weights=weights_for(stage, state), resume_from=within), following)
    within = resume_from if state.step else None
    trained = train(main, state, weights=weights_for(main, state), resume_from=within)

    state = trained.state
    tell_choice(trained)
    metrics, judged = _judge(trained, reported=wanted(plan))
    if (values := trained.before_training) is not None:
        metrics["before_training"] = values
    selected_by = "last step (no validation file)" if state.best is None else f"validation {variant.selection_metric}"
    metrics |= {"best_step": main.offset + trained.best_step, "selected_by": selected_by}

    report = make(of_run(trained, original, judged)) if wanted(plan) else None

    def write_model(directory: Path) -> None:
        trained.store.write_artifact(directory, state)
        if report is not None:
            save(report, directory)

    provenance = Provenance(
        job_id=plan.job_id,
        model=plan.fine_tuned_model,
        base_model=plan.model,
        task=plan.task,
        adaptation=plan.adaptation,
        seed=plan.seed,
        hyperparameters=main.chosen.model_dump(),
        files={name: records.file for name, records in splits.items()},
        labels=task.labels,
        headline=variant.headline,
        usage=adaptation.usage(trained.task.usage()),
        preprocessing=preprocessed,
        domain="" if report is None else card_section(report),
    )
    artifact, artifact_files = write_artifact(run_dir, provenance, metrics, write_model)
    write_step_metrics(run_dir / STEP_METRICS, _history(trained))
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


def _judge(trained: Trained, *, reported: bool) -> tuple[dict[str, Any], Judged | None]:
    """Metrics of the validation and the test file, and the one that a domain report is about: the last of them."""
    stage, best = trained.stage, trained.state.best
    metrics: dict[str, Any] = {}
    judged: Judged | None = None
    if best is not None:
        whole = stage.watched is stage.splits["validation"]
        if whole:
            metrics["validation"] = best.values | best.detail
        if not whole or (reported and "test" not in stage.splits):
            judged = trained.judge("validation")
            metrics["validation"] = judged.metrics
    if "test" in stage.splits:
        judged = trained.judge("test")
        metrics["test"] = judged.metrics
    return metrics, judged


def _history(trained: Trained) -> list[dict[str, float]]:
    """Rows of all stages."""
    earlier = [row for ended in trained.state.finished.values() for row in ended["history"]]
    return earlier + trained.history


def _tell(logs: Sequence[Log], emit: Callable[[Event], None]) -> None:
    for log in logs:
        emit(log)


def _device_name(device: torch.device, precision: str) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({precision})"
    return f"{device.type}, {torch.get_num_threads()} threads ({precision})"
