"""What clients do with fine-tuning jobs: create, list, look at, cancel, pause, resume."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session, selectinload

from app.catalog.hyperparameters import Hyperparameters
from app.catalog.preprocessing import Preprocessing, misfit
from app.catalog.tasks import TASKS
from app.errors import AppError, not_found
from app.files.lookup import check_purpose, get_file
from app.jobs import columns as task_columns
from app.jobs import events, inputs, preparations, registrations, use, validation
from app.jobs.events import Event
from app.jobs.lifecycle import change, next_states
from app.jobs.preparations import Reading
from app.projects import Caller
from app.registry import models
from app.settings import Settings
from app.tables import TERMINAL_STATUSES, Checkpoint, File, Job, new_id

MAX_SEED = 2**31 - 1


@dataclass(frozen=True)
class NewJob:
    """A fine-tuning job as asked for, already of the right types."""

    model: str
    training_file: str
    validation_file: str | None = None
    test_file: str | None = None
    target_files: Sequence[str] = ()
    suffix: str | None = None
    seed: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    task: Mapping[str, Any] | None = None
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    adaptation: Mapping[str, Any] = field(default_factory=dict[str, Any])
    preprocessing: Preprocessing | None = None
    time_limit_s: int | None = None


def create(session: Session, caller: Caller, new: NewJob, settings: Settings) -> Job:
    """Write the job and ask for the preparations it waits for. Raises AppError 400 for what does not exist or fit."""
    time_limit_s = _time_limit_s(new.time_limit_s, settings.job_time_limit_s)
    files = {
        param: get_file(session, caller.project_id, file_id, param=param, status=400, lock=True)
        for param in ("training_file", "validation_file", "test_file")
        if (file_id := getattr(new, param)) is not None
    }
    for param, file in files.items():
        check_purpose(file, param)
    task = dict(new.task) if new.task else task_of(files["training_file"])
    name = task.get("type")
    base = models.get_base(session, caller.project_id, new.model, name, hub=settings.hub == "on")
    columns = dict(new.columns)
    task_columns.check(name, columns)
    options = TASKS[name].reading(task) if name else {}
    seed = new.seed if new.seed is not None else secrets.randbelow(MAX_SEED + 1)
    preprocessing = new.preprocessing.with_seed(seed) if new.preprocessing else None
    if preprocessing is not None and name:
        _refuse_misfits(task, preprocessing)
    group = preprocessing.split.group if preprocessing and preprocessing.split else None
    extras = {*inputs.kept_columns(new.adaptation), *([group] if group is not None else [])}
    prepared = {
        param: preparations.ensure(
            session,
            file,
            Reading(
                name,
                options,
                columns or file.columns,
                base.id,
                tuple(sorted(extras)) if param == "training_file" else (),
            ),
            max_attempts=settings.max_attempts,
        ).id
        for param, file in files.items()
    }
    asked = inputs.Asked(caller.project_id, base, task, new.target_files, new.adaptation)
    job = Job(
        id=new_id("ftjob"),
        project_id=caller.project_id,
        kind="fine_tuning",
        queue="training",
        status="validating_files",
        model=base.id,
        suffix=new.suffix,
        seed=seed,
        metadata_=dict(new.metadata),
        training_file=new.training_file,
        validation_file=new.validation_file,
        test_file=new.test_file,
        training_preparation=prepared["training_file"],
        validation_preparation=prepared.get("validation_file"),
        test_preparation=prepared.get("test_file"),
        hyperparameters=new.hyperparameters.model_dump(mode="json"),
        max_attempts=settings.max_attempts,
        time_limit_s=time_limit_s,
        spec={
            "task": task,
            "adaptation": dict(new.adaptation),
            "columns": columns,
            "preprocessing": preprocessing.model_dump(mode="json") if preprocessing else None,
            "fine_tuned_model": models.fine_tuned_id(base.id, caller.project, new.suffix),
        },
        inputs=inputs.find(session, asked, settings),
    )
    session.add(job)
    session.flush()
    names = [f"{param.removesuffix('_file')} file {file.id}" for param, file in files.items()]
    names += [f"{inputs.param_of(item.key)} {item.file_id}" for item in job.inputs if item.file_id]
    prepared |= {inputs.param_of(item.key): item.preparation_id for item in job.inputs if item.preparation_id}
    created = Event(f"Created fine-tuning job: {job.id}")
    events.append(session, job.id, [created, Event(f"Validating {', '.join(names)}", data=prepared)])
    validation.advance(session)
    session.refresh(job)
    return job


def task_of(file: File) -> dict[str, Any]:
    """The task that a file was uploaded for; empty where it is to be told from the file."""
    return {"type": file.task} if file.task else {}


def _refuse_misfits(task: Mapping[str, Any], preprocessing: Preprocessing) -> None:
    """Raises AppError 400 for an operation on texts that no variant of the task can take."""
    spec = TASKS[task["type"]]
    misfits = [misfit(spec.name, variant, preprocessing) for variant in spec.candidates(task)]
    first = misfits[0]
    if first is not None and all(misfits):
        raise AppError(400, "preprocessing_does_not_fit_task", first.message, first.param, {"allowed": first.allowed})


def _time_limit_s(asked: int | None, most: int | None) -> int | None:
    if asked is not None and most is not None and asked > most:
        message = f"time_limit_s is {asked}; this installation allows at most {most} (TAILOR_JOB_TIME_LIMIT_S)."
        raise AppError(400, "time_limit_too_long", message, "time_limit_s", {"allowed": most})
    return most if asked is None else asked


def get(session: Session, caller: Caller, job_id: str, kind: str = "fine_tuning") -> Job:
    """The job of this kind. Raises AppError 404 if the project has none with this id."""
    job = session.scalar(select(Job).where(Job.id == job_id, Job.project_id == caller.project_id, Job.kind == kind))
    if job is None:
        raise not_found("evaluation" if kind == "evaluation" else "job", job_id)
    return job


def page(
    session: Session,
    caller: Caller,
    *,
    after: str | None,
    limit: int,
    metadata: Mapping[str, str] | None = None,
    status: str | None = None,
) -> tuple[list[Job], bool]:
    """Jobs newest first, and whether there are more.

    `metadata` pairs must all be on the job; an empty mapping asks for jobs without any.
    """
    query = (
        select(Job)
        .where(Job.project_id == caller.project_id, Job.kind == "fine_tuning")
        .options(selectinload(Job.inputs))
    )
    if metadata:
        query = query.where(Job.metadata_.contains(dict(metadata)))
    elif metadata is not None:
        query = query.where(Job.metadata_ == {})
    if status is not None:
        query = query.where(Job.status == status)
    if after is not None:
        query = query.where(Job.seq < get(session, caller, after).seq)
    rows = list(session.scalars(query.order_by(Job.seq.desc()).limit(limit + 1)))
    return rows[:limit], len(rows) > limit


def cancel(session: Session, caller: Caller, job_id: str, kind: str = "fine_tuning") -> Job:
    """Cancel at once what no worker holds; ask the worker of a running job. Asking again changes nothing.

    Raises AppError 409 for a job that ended otherwise.
    """
    job = get(session, caller, job_id, kind)
    cancelled = change(
        session,
        "cancelled",
        Job.id == job.id,
        Job.status != "running",
        cancel_requested_at=func.now(),
        event=lambda _: Event("Job cancelled"),
    )
    if not cancelled and _ask(session, job, Job.status == "running", Job.cancel_requested_at):
        events.append(session, job.id, [Event("Cancel requested; the worker stops at its next sign of life")])
    session.refresh(job)
    if job.status != "cancelled":
        _refuse_ended(job, "cancelled")
    return job


def pause(session: Session, caller: Caller, job_id: str) -> Job:
    """Pause at once what waits for a worker; ask for a checkpoint first where one works on it.

    A job whose files are still being read is paused once they are. Asking again changes nothing.

    Raises AppError 409 for a job that has ended.
    """
    job = get(session, caller, job_id)
    paused = change(
        session,
        "paused",
        Job.id == job.id,
        Job.status == "queued",
        pause_requested_at=func.now(),
        event=lambda _: Event("Job paused"),
    )
    underway = Job.status.in_(("validating_files", "running"))
    if not paused and _ask(session, job, underway, Job.pause_requested_at):
        events.append(session, job.id, [Event("Pause requested; a running job writes a checkpoint first")])
    session.refresh(job)
    _refuse_ended(job, "paused")
    return job


def resume(session: Session, caller: Caller, job_id: str) -> Job:
    """Queue a paused job again, or withdraw a pause that has not come to be. A job that is not paused stays as it is.

    Raises AppError 409 for a job that has ended.
    """
    job = get(session, caller, job_id)
    resumed = change(
        session,
        "queued",
        Job.id == job.id,
        Job.status == "paused",
        pause_requested_at=None,
        event=lambda _: Event("Job resumed; it is waiting for a worker"),
    )
    withdrawn = (
        not resumed
        and session.execute(
            update(Job)
            .where(
                Job.id == job.id, Job.status.in_(("validating_files", "running")), Job.pause_requested_at.is_not(None)
            )
            .values(pause_requested_at=None)
            .returning(Job.id),
            execution_options={"synchronize_session": False},
        ).one_or_none()
    )
    if withdrawn:
        events.append(session, job.id, [Event("Pause withdrawn")])
    session.refresh(job)
    _refuse_ended(job, "resumed")
    return job


def _ask(
    session: Session, job: Job, guard: ColumnElement[bool], intent: InstrumentedAttribute[datetime | None]
) -> bool:
    """Note what the client wants of a job that somebody works on. False: it is noted already, or nobody does."""
    asked = session.execute(
        update(Job).where(Job.id == job.id, guard, intent.is_(None)).values({intent: func.now()}).returning(Job.id),
        execution_options={"synchronize_session": False},
    )
    return asked.one_or_none() is not None


def _refuse_ended(job: Job, participle: str) -> None:
    if job.status in TERMINAL_STATUSES:
        raise AppError(
            409,
            "job_already_ended",
            f"Job {job.id} has already {_ended(job.status)}; only a job that has not ended can be {participle}.",
            extra={"allowed": next_states(job.status)},
        )


def _ended(status: str) -> str:
    return "been cancelled" if status == "cancelled" else status


def checkpoints(
    session: Session, caller: Caller, job_id: str, *, after: str | None, limit: int
) -> tuple[list[Checkpoint], bool]:
    """A job's checkpoints, newest first, and whether there are more."""
    job = get(session, caller, job_id)
    query = select(Checkpoint).where(Checkpoint.job_id == job.id)
    if after is not None:
        cursor = session.scalar(select(Checkpoint.seq).where(Checkpoint.job_id == job.id, Checkpoint.id == after))
        if cursor is None:
            raise not_found("checkpoint", after, "after")
        query = query.where(Checkpoint.seq < cursor)
    rows = list(session.scalars(query.order_by(Checkpoint.seq.desc()).limit(limit + 1)))
    return rows[:limit], len(rows) > limit


def delete_model(session: Session, caller: Caller, model_id: str) -> None:
    """Delete a model of the project. Raises AppError 404, 403 for a shared one, 409 while an unfinished job needs it.

    The lock makes a job that is being created on this model come first or not at all. A registration that is underway
    ends: its job goes first, as its worker too locks the job before the model.
    """
    model = models.get(session, caller.project_id, model_id)
    registrations.withdraw(session, caller.project_id, model.id)
    session.refresh(model, with_for_update=True)
    if model.deleted_at is not None:
        raise not_found("model", model_id, "model")
    waiting = use.unfinished_jobs_of_model(session, model.id)
    maker = session.get(Job, model.job_id) if model.kind == "checkpoint" else None
    if maker is not None and maker.status not in TERMINAL_STATUSES:  # it goes on from its checkpoints
        waiting.insert(0, maker.id)
    models.delete(session, model, unfinished_jobs=waiting)
