"""Models: find one, check that a job may start from it, list, delete, publish what a job made."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete as sql_delete
from sqlalchemy import func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.catalog.tasks import TASKS
from app.errors import AppError, not_found
from app.registry import adapters
from app.storage.blobs import BlobRef
from app.tables import Checkpoint, Job, JobInput, Json, Model, Preparation, StoredFile


@dataclass(frozen=True)
class PublishedFile:
    """A file of a model: its path inside the directory, and its bytes."""

    path: str
    blob: BlobRef


def visible(project_id: str) -> Any:
    """The condition that a project sees a model: its own, and base models."""
    return or_(Model.project_id == project_id, Model.project_id.is_(None)) & Model.deleted_at.is_(None)


def get(session: Session, project_id: str, model_id: str) -> Model:
    """The model. Raises AppError 404 if the project sees none with this id."""
    model = session.scalar(select(Model).where(Model.id == model_id, visible(project_id)))
    if model is None:
        removed = _removed(session, project_id, model_id)
        raise AppError(404, "model_not_found", removed, "model") if removed else not_found("model", model_id, "model")
    return model


def _removed(session: Session, project_id: str, model_id: str) -> str | None:
    """When a model of the project was removed, and what there is instead; None if there never was one."""
    removed = session.scalar(
        select(Model).where(Model.id == model_id, Model.project_id == project_id, Model.deleted_at.is_not(None))
    )
    if removed is None:
        return None
    message = f"Model {model_id!r} was removed on {removed.deleted_at:%Y-%m-%d %H:%M} UTC."
    if removed.kind != "checkpoint":
        return message
    message += " Checkpoints are removed TAILOR_CHECKPOINT_RETENTION_DAYS after the end of their job, or by a client."
    made = session.scalar(
        select(Model.id).where(Model.job_id == removed.job_id, Model.kind == "fine_tuned", visible(project_id))
    )
    return message if made is None else f"{message} The job's model is {made!r}."


def get_base(
    session: Session, project_id: str, model_id: str, task: str | None, *, hub: bool, param: str = "model"
) -> Model:
    """The model a job starts from or uses, locked against deletion.

    Raises AppError 400 if it is unknown or does not fit, 409 while it is being checked.

    Without a task, it must fit some; `misfit` says more once the task is known. `param` is where the job names it.
    """
    query = select(Model).where(Model.id == model_id, visible(project_id)).with_for_update(read=True)
    model = session.scalar(query)
    if model is None and hub and _is_hub_id(model_id):
        session.execute(insert(Model).values(id=model_id, kind="base", bytes=0).on_conflict_do_nothing())
        model = session.scalar(query)
    if model is None:
        raise _unknown_base(session, project_id, model_id, hub, param)
    if model.status == "processing":
        message = (
            f"Model {model_id!r} is still being checked. Poll GET /v1/models/{model_id} until its status is 'ready'."
        )
        raise AppError(409, "model_not_ready", message, param)
    if model.problem is not None:
        raise AppError(400, "model_unusable", f"Model {model_id!r} cannot be used: {model.problem}", param)
    problem = misfit(model, task)
    if problem is not None:
        raise AppError(400, "model_does_not_fit_task", problem, param, {"allowed": model_types(task)})
    return model


def fitting_tasks(model: Model) -> list[str] | None:
    """Names of the tasks that a model can be fine-tuned for; None while its family is not known."""
    if model.problem is not None:
        return []
    if model.family is None:
        return None
    return [name for name, spec in TASKS.items() if model.family in spec.model_types]


def model_types(task: str | None) -> list[str]:
    """Types of models that can be fine-tuned for a task, or for any."""
    specs = TASKS.values() if task is None else (TASKS[task],)
    return sorted(frozenset[str]().union(*(spec.model_types for spec in specs)))


def misfit(model: Model, task: str | None) -> str | None:
    """Why a model cannot be fine-tuned for a task, or for any; None if it can."""
    fitting = model_types(task)
    if model.family is None or model.family in fitting:
        return None
    return (
        f"Model {model.id!r} is of type {model.family!r}, which has no head for {task or 'any task'}. Use a model of "
        f"one of these types: {', '.join(fitting)}."
    )


def exists(session: Session, model_id: str) -> bool:
    """Whether a base model is there and usable."""
    query = select(Model.id).where(Model.id == model_id, Model.deleted_at.is_(None), Model.status == "ready")
    return session.scalar(query) is not None


def _is_hub_id(model_id: str) -> bool:
    owner, _, name = model_id.partition("/")
    ours = owner in ("starter", "local") or owner.startswith("@")
    return bool(owner and name) and "/" not in name and not ours and ":" not in model_id


def _unknown_base(session: Session, project_id: str, model_id: str, hub: bool, param: str) -> AppError:
    usable = select(Model.id).where(visible(project_id), Model.kind == "base", Model.status == "ready")
    known = list(session.scalars(usable.order_by(Model.id)))
    missing = _removed(session, project_id, model_id) or f"No such model: {model_id!r}."
    message = f"{missing} Base models here: {', '.join(known) or 'none yet (is a worker running?)'}."
    if not hub and _is_hub_id(model_id):
        message += " Hub ids need TAILOR_HUB=on; without it, register the model's directory with POST /v1/models."
    return AppError(400, "model_not_found", message, param, {"allowed": known[:100]})


def registered_id(project: str, name: str) -> str:
    """`@<project>/<name>`. No hub has an owner with an `@`, and nothing else of ours begins with one."""
    return f"@{project}/{name}"


def fine_tuned_id(base_id: str, project: str, suffix: str | None) -> str:
    """`ft:<base>:<project>:<suffix>:<random>`; a model made from a fine-tuned one names the same base."""
    root = base_id.split(":")[1] if base_id.startswith("ft:") else base_id
    return f"ft:{root}:{project}:{suffix or ''}:{secrets.token_hex(4)}"


def checkpoint_id(fine_tuned_model: str, step: int) -> str:
    """Id of a checkpoint's model."""
    return f"{fine_tuned_model}:ckpt-step-{step}"


def list_all(session: Session, project_id: str) -> list[Model]:
    """Base models, and those that the project registered or made, oldest first. Checkpoints are with their job."""
    query = select(Model).where(visible(project_id), Model.kind != "checkpoint")
    return list(session.scalars(query.order_by(Model.seq)))


def files(session: Session, owner_id: str) -> list[StoredFile]:
    """The stored files of a model or checkpoint, by path."""
    return list(session.scalars(select(StoredFile).where(StoredFile.owner_id == owner_id).order_by(StoredFile.path)))


def get_file(session: Session, owner_id: str, path: str) -> StoredFile:
    """A stored file of a model or checkpoint. Raises AppError 404 if there is none at this path."""
    file = session.get(StoredFile, (owner_id, path))
    if file is None:
        raise not_found("model file", path, "path")
    return file


def publish(session: Session, model: Model, published: Sequence[PublishedFile]) -> None:
    """Add a model with its files."""
    session.add(model)
    session.flush()
    store_files(session, model.id, published)


def made_by(
    session: Session,
    job: Job,
    model_id: str,
    kind: str,
    *,
    task: str,
    size: int,
    metrics: Json,
    labels: list[str] | None = None,
) -> Model:
    """A model that a job made for `task`: of its base's family and window."""
    parent = session.get(Model, job.model)
    return Model(
        id=model_id,
        project_id=job.project_id,
        kind=kind,
        family=parent.family if parent else None,
        max_length=parent.max_length if parent else None,
        task=task,
        labels=labels,
        parent=job.model,
        job_id=job.id,
        metrics=metrics,
        bytes=size,
    )


def store_files(session: Session, owner_id: str, published: Sequence[PublishedFile]) -> None:
    """Name the blobs of an owner's files."""
    session.add_all(
        StoredFile(
            owner_id=owner_id, path=file.path, bytes=file.blob.bytes, sha256=file.blob.sha256, blob_id=file.blob.id
        )
        for file in published
    )
    session.flush()


def delete(session: Session, model: Model, *, unfinished_jobs: Sequence[str]) -> None:
    """Delete a model of a project and its bytes. Its row stays where jobs or models name it: their lineage.

    Raises AppError 403 for a base model that all projects share, 409 while an unfinished job or an adapter needs it.
    """
    if model.project_id is None:
        message = (
            f"Model {model.id!r} is a base model of this installation; only a project's own models can be deleted."
        )
        raise AppError(403, "base_model", message)
    if unfinished_jobs:
        raise AppError(
            409,
            "model_in_use",
            f"Model {model.id!r} is needed by unfinished jobs: {', '.join(unfinished_jobs)}. Cancel them first.",
        )
    if needing := adapters.on(session, model.id):
        raise AppError(
            409,
            "model_in_use",
            f"Model {model.id!r} is what these adapters belong on, which are no models without it: "
            f"{', '.join(needing)}. Delete them first.",
        )
    remove_bytes(session, model.id)
    for checkpoint in session.scalars(select(Checkpoint).where(Checkpoint.model_id == model.id)):
        remove_bytes(session, checkpoint.id)
        session.delete(checkpoint)
    if model.kind == "base" and not _is_named(session, model.id):
        session.delete(model)
    else:
        model.deleted_at = func.now()
    session.flush()


def _is_named(session: Session, model_id: str) -> bool:
    """Whether anything was made from a model, so that its name must never mean another."""
    uses = (
        select(Job.id).where(Job.model == model_id),
        select(Preparation.id).where(Preparation.model == model_id),
        select(Model.id).where(Model.parent == model_id),
        select(JobInput.seq).where(JobInput.model_id == model_id),
    )
    return any(session.scalar(use.limit(1)) is not None for use in uses)


def remove_bytes(session: Session, owner_id: str) -> None:
    """Forget an owner's files; the collector frees their bytes."""
    session.execute(sql_delete(StoredFile).where(StoredFile.owner_id == owner_id))
