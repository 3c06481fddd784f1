"""What a job needs beside its three files and its base model: target files, and the files and models of its methods.

Each has as its key where the job names it: `target_files.0`, `adaptation.continued_pretraining.files.0`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from app.catalog.adaptation.spec import JobFacts, MethodOptions, MethodSpec, NeededFile, NeededModel
from app.catalog.fill_mask import FILL_MASK
from app.catalog.methods import with_options
from app.catalog.tasks import TASKS
from app.errors import AppError
from app.files.lookup import check_purpose, get_file
from app.jobs import columns as task_columns
from app.jobs import preparations
from app.jobs.leases import JobError
from app.jobs.preparations import Reading
from app.registry import models
from app.settings import Settings
from app.tables import File, Job, JobInput, Model, Preparation

TARGET_FILES = "target_files"
METHODS = "adaptation"


@dataclass(frozen=True)
class Asked:
    """A job that is being created, as far as its inputs depend on it; `task` may lack what its training file tells."""

    project_id: str
    base: Model
    task: Mapping[str, Any]
    target_files: Sequence[str]
    adaptation: Mapping[str, Mapping[str, Any]]


def param_of(key: str) -> str:
    """How errors write the place that a key names: `target_files[0]`."""
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", key)


def find(session: Session, asked: Asked, settings: Settings) -> list[JobInput]:
    """The inputs of a new job, locked against deletion; files are asked for as far as it is known how to read them.

    Raises AppError 400 for what does not exist or fit, 409 for a model that is still being checked.
    """
    methods = with_options(asked.adaptation)
    _refuse_misfits(methods, asked)
    found: list[JobInput] = []
    for needed in _needed_files(asked.target_files, methods, asked.task):
        file = get_file(session, asked.project_id, needed.file_id, param=param_of(needed.key), status=400, lock=True)
        check_purpose(file, param_of(needed.key))
        task_columns.check(needed.task.get("type"), needed.columns, f"{param_of(needed.key)}.columns")
        reading = _reading(file, needed, asked.base.id)
        read = preparations.ensure(session, file, reading, max_attempts=settings.max_attempts) if reading else None
        found.append(JobInput(key=needed.key, file_id=file.id, preparation_id=read.id if read else None))
    for needed in _needed_models(methods):
        hub, param = settings.hub == "on", param_of(needed.key)
        model = models.get_base(session, asked.project_id, needed.model_id, needed.task, hub=hub, param=param)
        _refuse_other_task(model, needed, param)
        found.append(JobInput(key=needed.key, model_id=model.id))
    return found


def resolve(session: Session, job: Job) -> JobError | None:
    """Have the files read that were not read as the job's task, now known, asks for.

    Afterwards a preparation may be pending. Returns why the job cannot be adapted as it asks.
    """
    task: dict[str, Any] = job.spec["task"]
    methods = with_options(job.spec["adaptation"])
    for spec, _ in methods:
        if (problem := _refusal(spec, task["type"])) is not None:
            return JobError("method_does_not_fit_task", problem, f"{METHODS}.{spec.name}")
    needed = {file.key: file for file in _needed_files(target_files(job), methods, task)}
    for item, file, preparation in _files(session, job):
        reading = _reading(file, needed[item.key], job.model)
        if reading is not None and (preparation is None or not _answers(preparation, reading)):
            read = preparations.ensure(session, file, reading, max_attempts=job.max_attempts)
            item.preparation_id = read.id
    session.flush()
    return None


def find_problem(session: Session, job: Job) -> JobError | None:
    """An input that is gone or could not be read, with the reason."""
    for item, file, preparation in _files(session, job):
        param = param_of(item.key)
        if file.deleted_at is not None:
            return JobError("file_not_found", f"The file {file.id} of {param} was deleted.", param)
        if preparation is not None and preparation.error is not None:
            error = preparation.error
            message = f"{param} {file.id} ({file.filename}): {error['message']}"
            if preparation.task == FILL_MASK.name:
                message += (
                    " The file is read for its texts: plain text, or records with a column `text`, which `columns` at "
                    "its upload may call otherwise; other columns do not matter."
                )
            return JobError(error["code"], message, param, error.get("data"))
    return None


def are_pending(session: Session, job: Job) -> bool:
    """Whether a file is still being read."""
    return any(preparation is None or preparation.status == "pending" for _, _, preparation in _files(session, job))


def kept_columns(adaptation: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Columns of the training file that methods read besides the task's fields."""
    return tuple(column for spec, options in with_options(adaptation) for column in spec.extras(options))


def target_files(job: Job) -> list[str]:
    """Ids of a job's target files, in its order."""
    return [item.file_id for item in job.inputs if item.file_id and item.key.startswith(f"{TARGET_FILES}.")]


def _files(session: Session, job: Job) -> Iterator[tuple[JobInput, File, Preparation | None]]:
    for item in job.inputs:
        if item.file_id is not None:
            preparation = session.get(Preparation, item.preparation_id) if item.preparation_id else None
            yield item, session.get_one(File, item.file_id), preparation


def _needed_files(
    target: Sequence[str], methods: Sequence[tuple[MethodSpec, MethodOptions]], task: Mapping[str, Any]
) -> list[NeededFile]:
    """All files, with their whole names as keys."""
    texts = {"type": FILL_MASK.name}
    return [NeededFile(f"{TARGET_FILES}.{place}", file_id, texts) for place, file_id in enumerate(target)] + [
        replace(needed, key=f"{METHODS}.{needed.key}")
        for spec, options in methods
        for needed in spec.files(options, task)
    ]


def _needed_models(methods: Sequence[tuple[MethodSpec, MethodOptions]]) -> list[NeededModel]:
    return [
        replace(needed, key=f"{METHODS}.{needed.key}") for spec, options in methods for needed in spec.models(options)
    ]


def _reading(file: File, needed: NeededFile, model: str | None) -> Reading | None:
    """How a file is to be read; None as long as that is not known."""
    name: str | None = needed.task.get("type")
    if name is None:
        return None
    spec = TASKS[name]
    fields = {field.name for variant in spec.variants for field in variant.fields}
    uploaded = {field: column for field, column in file.columns.items() if field in fields}
    return Reading(name, spec.reading(needed.task), dict(needed.columns) or uploaded, model)


def _answers(preparation: Preparation, reading: Reading) -> bool:
    """Whether a preparation is of this reading, or found by itself what it asks for."""
    if preparation.status != "processed":
        return (preparation.task, preparation.options) == (reading.task, reading.options)
    found = preparation.report or {}
    return found.get("task") == reading.task and reading.options.items() <= found.get("options", {}).items()


def _refuse_misfits(methods: Sequence[tuple[MethodSpec, MethodOptions]], asked: Asked) -> None:
    task: str | None = asked.task.get("type")
    facts = JobFacts(asked.base.family, len(asked.target_files), task)
    for spec, options in methods:
        param = f"{METHODS}.{spec.name}"
        if task is not None and (problem := _refusal(spec, task)) is not None:
            raise AppError(400, "method_does_not_fit_task", problem, param, {"allowed": list(spec.tasks)})
        if spec.needs_target and not asked.target_files:
            message = (
                f"{param} learns from unlabelled texts of the domain that the model is for, and the job names none. "
                f"Upload some and give their ids as target_files, or leave {param} out."
            )
            raise AppError(400, "target_files_missing", message, TARGET_FILES)
        if (problem := spec.misfit(options, facts)) is not None:
            raise AppError(400, "method_does_not_fit", f"{param} {problem}", param)


def _refusal(spec: MethodSpec, task: str) -> str | None:
    """Why jobs of a task cannot have a method, and what to do; None where they can."""
    refusal = spec.refusal(task)
    return None if refusal is None else f"{METHODS}.{refusal} Leave {METHODS}.{spec.name} out."


def _refuse_other_task(model: Model, needed: NeededModel, param: str) -> None:
    if model.task not in (None, needed.task):
        message = (
            f"{param} is {model.id!r}, which was fine-tuned for {model.task}; it has to be a model for {needed.task}."
        )
        raise AppError(400, "model_of_other_task", message, param, {"allowed": [needed.task]})
