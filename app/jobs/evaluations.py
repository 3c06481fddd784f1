"""Evaluations: any model on any file of its task. One more kind of job, whose file is kept as a job's test file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.catalog.tasks import TASKS
from app.errors import AppError
from app.files.lookup import check_purpose, get_file
from app.jobs import columns as task_columns
from app.jobs import events, preparations, service, validation
from app.jobs.events import Event
from app.jobs.preparations import Reading
from app.projects import Caller
from app.registry import models
from app.settings import Settings
from app.tables import Job, Model, new_id

KIND = "evaluation"
STATISTICS = "statistics.npy"  # path of the stored file with the statistics of rows, which comparisons read
DEFAULT_SEED = 0


@dataclass(frozen=True)
class NewEvaluation:
    """An evaluation as asked for, already of the right types. `task` holds only what the client has said."""

    model: str
    file: str
    task: Mapping[str, Any] | None = None
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    slice_by: Mapping[str, Any] | None = None
    seed: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class _Training:
    """How a model was trained, which is how it has to be asked."""

    task: dict[str, Any]
    seed: int | None
    max_length: int | None
    precision: str | None
    preprocessing: dict[str, Any] | None


def create(session: Session, caller: Caller, new: NewEvaluation, settings: Settings) -> Job:
    """Write the evaluation and ask for the preparation it waits for.

    Raises AppError 400 for what does not exist or does not fit, 409 for a model that is still being checked.
    """
    file = get_file(session, caller.project_id, new.file, param="file", status=400, lock=True)
    check_purpose(file, "file")
    model = models.get_base(session, caller.project_id, new.model, None, hub=settings.hub == "on")
    training = _training(session, model)
    if training is not None:
        _refuse_other_task(model, training.task, new.task or {})
    task = training.task if training else dict(new.task) if new.task else service.task_of(file)
    name = task.get("type")
    columns = dict(new.columns)
    task_columns.check(name, columns)
    extras = (new.slice_by["column"],) if new.slice_by and new.slice_by["type"] == "column" else ()
    reading = Reading(
        name,
        TASKS[name].reading(task) if name else {},
        columns or file.columns,
        model.parent or model.id,  # the tokens are the same, and this reading is there where a job tested on the file
        extras,
    )
    prepared = preparations.ensure(session, file, reading, max_attempts=settings.max_attempts)
    seed = training.seed if training and training.seed is not None else DEFAULT_SEED
    job = Job(
        id=new_id("eval"),
        project_id=caller.project_id,
        kind=KIND,
        queue="training",
        status="validating_files",
        model=model.id,
        seed=seed if new.seed is None else new.seed,
        metadata_=dict(new.metadata),
        test_file=file.id,
        test_preparation=prepared.id,
        max_attempts=settings.max_attempts,
        time_limit_s=settings.job_time_limit_s,
        spec={
            "task": task,
            "columns": columns,
            "slice_by": dict(new.slice_by) if new.slice_by else None,
            "max_length": training.max_length if training else None,
            "precision": training.precision if training else None,
            "preprocessing": training.preprocessing if training else None,
        },
    )
    session.add(job)
    session.flush()
    events.append(
        session,
        job.id,
        [
            Event(f"Created evaluation: {job.id}"),
            Event(f"Validating file {file.id}", data={"preparation": prepared.id}),
        ],
    )
    validation.advance(session)
    session.refresh(job)
    return job


def _training(session: Session, model: Model) -> _Training | None:
    """How a model was trained, here or by another Tailor; None for other base models."""
    job = session.get(Job, model.job_id) if model.job_id else None
    if job is None:
        elsewhere = (model.source or {}).get("trained")
        if elsewhere is None:
            return None
        known = {name: elsewhere[name] for name in ("task", "seed", "max_length", "precision")}
        return _Training(**known, preprocessing=None)  # its directory says how texts are cleaned
    resolved = {name: job.hyperparameters.get(name) for name in ("max_length", "precision")}
    known = {name: None if value == "auto" else value for name, value in resolved.items()}
    return _Training(
        task=job.spec["task"],
        seed=job.seed,
        max_length=known["max_length"],
        precision=known["precision"],
        preprocessing=job.spec.get("preprocessing"),
    )


def _refuse_other_task(model: Model, trained: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    for option, value in asked.items():
        if trained.get(option) != value:
            raise AppError(
                400,
                "model_of_other_task",
                f"task.{option} is {value!r}, but model {model.id!r} was trained with {trained.get(option)!r}. Leave "
                "task out, or evaluate a model that was trained for it.",
                f"task.{option}",
                {"allowed": [trained.get(option)]},
            )


def get(session: Session, caller: Caller, evaluation_id: str) -> Job:
    """The evaluation. Raises AppError 404 if the project has none with this id."""
    return service.get(session, caller, evaluation_id, KIND)


def page(
    session: Session,
    caller: Caller,
    *,
    after: str | None,
    limit: int,
    model: str | None = None,
    file: str | None = None,
    status: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> tuple[list[Job], bool]:
    """Evaluations newest first, and whether there are more; only those of a model, of a file, in a state."""
    query = select(Job).where(Job.project_id == caller.project_id, Job.kind == KIND)
    for column, value in ((Job.model, model), (Job.test_file, file), (Job.status, status)):
        if value is not None:
            query = query.where(column == value)
    if metadata:
        query = query.where(Job.metadata_.contains(dict(metadata)))
    elif metadata is not None:
        query = query.where(Job.metadata_ == {})
    if after is not None:
        query = query.where(Job.seq < get(session, caller, after).seq)
    rows = list(session.scalars(query.order_by(Job.seq.desc()).limit(limit + 1)))
    return rows[:limit], len(rows) > limit


def cancel(session: Session, caller: Caller, evaluation_id: str) -> Job:
    """Cancel at once, or ask the worker. Raises AppError 404, 409 for one that has ended otherwise."""
    return service.cancel(session, caller, evaluation_id, KIND)
