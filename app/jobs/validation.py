"""From `validating_files` to `queued` or `failed`: what can be known of a job's files before it takes a device."""

from typing import Any

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from app.catalog.preprocessing import misfit, of_job
from app.catalog.tasks import TASKS
from app.jobs import evaluated_files, inputs, resolution
from app.jobs.events import Event
from app.jobs.leases import JobError
from app.jobs.lifecycle import change
from app.jobs.resolution import PreparedFile
from app.tables import File, Job, JobInput, Preparation

SHOWN_LABELS = 10
PARAMS = ("training_file", "validation_file", "test_file")


def advance(session: Session) -> list[Job]:
    """Move every job whose files are all prepared. Returns those that were queued.

    Safe to call at any time and by many: jobs that somebody else is moving are skipped.
    """
    own = Preparation.id.in_((Job.training_preparation, Job.validation_preparation, Job.test_preparation))
    further = exists().where(JobInput.job_id == Job.id, JobInput.preparation_id == Preparation.id)
    pending = exists().where(Preparation.status == "pending", own | further.correlate(Job, Preparation))
    ready = session.scalars(
        select(Job)
        .where(Job.status == "validating_files", ~pending)
        .order_by(Job.seq)
        .with_for_update(key_share=True, skip_locked=True)
    ).all()
    return [job for job in ready if _advance_one(session, job)]


def _advance_one(session: Session, job: Job) -> bool:
    if job.kind == "evaluation":
        problem, is_read_again = evaluated_files.find_problem(session, job)
    else:
        files = _files_of(session, job)
        problem = _unprepared(files, job) or inputs.find_problem(session, job)
        problem = problem or resolution.resolve(session, job, files) or inputs.resolve(session, job)
        pending = any(item.preparation.status == "pending" for item in files)
        is_read_again = problem is None and (pending or inputs.are_pending(session, job))
        problem = problem or (None if is_read_again else find_problem(job.hyperparameters, files, job))
    if is_read_again:
        return False  # a file is read once more, now that the task is known
    if problem is None and job.pause_requested_at is not None:
        change(session, "paused", Job.id == job.id, event=lambda _: Event("Files validated; job is paused"))
        return False
    if problem is None:
        return bool(
            change(
                session,
                "queued",
                Job.id == job.id,
                event=lambda _: Event("Files validated; job is waiting for a worker"),
            )
        )
    change(
        session,
        "failed",
        Job.id == job.id,
        error=problem.to_json(),
        event=lambda _: Event(problem.message, "error", data=problem.data or {}),
    )
    return False


def _files_of(session: Session, job: Job) -> list[PreparedFile]:
    named = (
        ("training_file", job.training_file, job.training_preparation),
        ("validation_file", job.validation_file, job.validation_preparation),
        ("test_file", job.test_file, job.test_preparation),
    )
    found: list[PreparedFile] = []
    for param, file_id, preparation_id in named:
        file = session.get(File, file_id) if file_id else None
        preparation = session.get(Preparation, preparation_id) if preparation_id else None
        if file is not None and preparation is not None:
            found.append(PreparedFile(param, file, preparation))
    return found


def _unprepared(files: list[PreparedFile], job: Job) -> JobError | None:
    """A file that is gone or could not be prepared."""
    by_param = {item.param: item for item in files}
    for param in PARAMS:
        if getattr(job, param) and param not in by_param:
            return JobError("file_not_found", f"The {param} {getattr(job, param)} was deleted.", param)
    for item in files:
        if item.preparation.error is not None:
            error = item.preparation.error
            message = f"{item.param} {item.file.id} ({item.file.filename}): {error['message']}"
            return JobError(error["code"], message, item.param, error.get("data"))
    return None


def find_problem(hyperparameters: dict[str, Any], files: list[PreparedFile], job: Job) -> JobError | None:
    """The first reason why these files cannot be trained on, or None."""
    problem = _unprepared(files, job)
    if problem is not None:
        return problem
    training = files[0]
    task = job.spec["task"]
    spec = TASKS[task["type"]]
    variant = spec.variant(task)
    unfit = misfit(spec.name, variant, of_job(job.spec))
    if unfit is not None:
        return JobError("preprocessing_does_not_fit_task", unfit.message, unfit.param, {"allowed": unfit.allowed})
    target = variant.target
    if target is not None and target.type == "number":
        return _numbers_problem(hyperparameters, files)
    labels = _labels(training)
    if labels is None or target is None:
        return None
    where = f"{training.param} {training.file.id} ({training.file.filename})"
    if target.type == "label" and len(labels) < 2:
        only = next(iter(labels), None)
        return JobError(
            "one_label_only",
            f"{where} has one label only: {only!r}. A classifier "
            "needs rows of at least two labels; check the `columns` mapping or add rows.",
            training.param,
        )
    if not labels:
        message = (
            f"{where} has no label in any row: there is nothing to learn. Check the `columns` mapping or add rows."
        )
        return JobError("no_labels", message, training.param)
    rows = (training.preparation.report or {}).get("rows")
    if target.type == "labels" and all(count == rows for count in labels.values()):
        return JobError(
            "one_label_only",
            f"Every row of {where} has the same labels: {_listed(list(labels))}. There is nothing to tell apart; add "
            "rows that lack one of them, or check the `columns` mapping.",
            training.param,
        )
    for item in files:
        unseen = [label for label in _labels(item) or {} if label not in labels]
        if unseen:
            return JobError(
                "unseen_label",
                f"{item.param} {item.file.id} ({item.file.filename}) has labels that the training file never shows: "
                f"{_listed(unseen)}. Labels of the training file: {_listed(list(labels))}. Add training rows for "
                "them, or remove or rename these rows.",
                item.param,
                {"unseen": unseen[:SHOWN_LABELS], "allowed": list(labels)[:1000]},
            )
    return None if target.type == "tags" else _weights_problem(hyperparameters, labels)


def _numbers_problem(hyperparameters: dict[str, Any], files: list[PreparedFile]) -> JobError | None:
    for name, nothing in (("class_weights", None), ("label_smoothing", 0)):
        if hyperparameters.get(name, nothing) != nothing:
            message = f"{name} is about classes, and regression predicts a number. Leave {name} out."
            return JobError(f"{name}_without_classes", message, f"hyperparameters.{name}")
    for item in files:
        numbers: dict[str, float] | None = (item.preparation.report or {}).get("numbers")
        if numbers is not None and numbers["min"] == numbers["max"] and item.param != "test_file":
            return JobError(
                "constant_target",
                f"Every row of {item.param} {item.file.id} ({item.file.filename}) has the same number, "
                f"{numbers['min']:g}: there is nothing to predict. Check the `columns` mapping, or add rows with other "
                "numbers.",
                item.param,
            )
    return None


def _labels(item: PreparedFile) -> dict[str, int] | None:
    return (item.preparation.report or {}).get("labels")


def _listed(labels: list[str]) -> str:
    shown = ", ".join(repr(label) for label in labels[:SHOWN_LABELS])
    return shown if len(labels) <= SHOWN_LABELS else f"{shown} and {len(labels) - SHOWN_LABELS} more"


def _weights_problem(hyperparameters: dict[str, Any], labels: dict[str, int]) -> JobError | None:
    weights = hyperparameters.get("class_weights")
    if not isinstance(weights, dict):
        return None
    missing = [label for label in labels if label not in weights]
    unknown = [label for label in weights if label not in labels]
    if not missing and not unknown:
        return None
    message = "class_weights must name every label of the training file once."
    message += f" Missing: {_listed(missing)}." if missing else ""
    message += f" Not a label: {_listed(unknown)}." if unknown else ""
    return JobError("class_weights_mismatch", message, "hyperparameters.class_weights", {"allowed": list(labels)})
