"""What clients do with files: upload, list, look at, read, delete."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import delete as sql_delete
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.errors import AppError, not_found
from app.files.lookup import get_file
from app.jobs import preparations, service, use
from app.jobs.preparations import Reading
from app.projects import Caller
from app.registry import models
from app.registry.base_models import STARTER
from app.settings import Settings
from app.storage.blobs import BlobRef
from app.tables import File, Job, Preparation, new_id

RESULTS_PURPOSE = "fine-tune-results"
REMOVED_AT_ONCE = 100


@dataclass(frozen=True)
class NewFile:
    """An uploaded file whose bytes are stored already. `task` and `columns` say how to read a data file."""

    filename: str
    purpose: str
    blob: BlobRef
    task: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    expires_after: timedelta | None = None


def create(session: Session, caller: Caller, new: NewFile, settings: Settings) -> File:
    """Write the file; one to fine-tune on is prepared at once, so that its owner learns of a bad line in seconds."""
    if new.blob.bytes == 0:
        raise AppError(400, "empty_file", f"File {new.filename!r} is empty: 0 bytes were received.", "file")
    file = File(
        id=new_id("file"),
        project_id=caller.project_id,
        filename=new.filename,
        purpose=new.purpose,
        bytes=new.blob.bytes,
        sha256=new.blob.sha256,
        blob_id=new.blob.id,
        status="uploaded" if new.purpose == "fine-tune" else "processed",
        task=new.task,
        columns=dict(new.columns),
        expires_at=func.now() + new.expires_after if new.expires_after else None,
    )
    session.add(file)
    session.flush()
    if new.purpose == "fine-tune":
        model = STARTER if models.exists(session, STARTER) else None
        reading = Reading(new.task, {}, dict(new.columns), model)
        preparation = preparations.ensure(session, file, reading, max_attempts=settings.max_attempts)
        preparations.show_on_file(file, preparation)
        session.flush()
    return file


def add_result(session: Session, project_id: str, filename: str, blob: BlobRef) -> File:
    """A file that a job made."""
    file = File(
        id=new_id("file"),
        project_id=project_id,
        filename=filename,
        purpose=RESULTS_PURPOSE,
        bytes=blob.bytes,
        sha256=blob.sha256,
        blob_id=blob.id,
        status="processed",
    )
    session.add(file)
    session.flush()
    return file


def page(
    session: Session, caller: Caller, *, after: str | None, limit: int, purpose: str | None, newest_first: bool
) -> tuple[list[File], bool]:
    """Files in the order of their upload, and whether there are more."""
    query = select(File).where(File.project_id == caller.project_id, File.deleted_at.is_(None))
    if purpose is not None:
        query = query.where(File.purpose == purpose)
    if after is not None:
        cursor = get_file(session, caller.project_id, after, param="after").seq
        query = query.where(File.seq < cursor if newest_first else File.seq > cursor)
    rows = list(session.scalars(query.order_by(File.seq.desc() if newest_first else File.seq).limit(limit + 1)))
    return rows[:limit], len(rows) > limit


def content(session: Session, caller: Caller, file_id: str) -> tuple[File, uuid.UUID]:
    """The file and the blob with its bytes."""
    file = get_file(session, caller.project_id, file_id)
    if file.blob_id is None:
        raise not_found("file", file_id)
    return file, file.blob_id


def report(session: Session, caller: Caller, file_id: str, *, job_id: str | None = None) -> Preparation | None:
    """The preparation that the file's status speaks of, or the one that a job reads; None if nothing prepared it."""
    file = get_file(session, caller.project_id, file_id)
    preparation_id = file.preparation_id
    if job_id is not None:
        job = service.get(session, caller, job_id, "evaluation" if job_id.startswith("eval-") else "fine_tuning")
        used = {
            **{item.file_id: item.preparation_id for item in job.inputs if item.file_id},
            job.training_file: job.training_preparation,
            job.validation_file: job.validation_preparation,
            job.test_file: job.test_preparation,
        }
        if file_id not in used:
            raise AppError(400, "file_not_in_job", f"Job {job_id} does not use file {file_id}.", "job")
        preparation_id = used[file_id]
    return session.get(Preparation, preparation_id) if preparation_id else None


def delete(session: Session, caller: Caller, file_id: str) -> File:
    """Delete a file and everything read from it. Raises AppError 409 while an unfinished job needs it."""
    file = get_file(session, caller.project_id, file_id)
    session.refresh(file, with_for_update=True)
    if file.deleted_at is not None:
        raise not_found("file", file_id)
    users = use.unfinished_jobs_of_file(session, file)
    if users:
        raise AppError(
            409,
            "file_in_use",
            f"File {file.id} is used by unfinished jobs: {', '.join(users)}. Cancel them or wait for their end.",
            extra={"jobs": users},
        )
    remove(session, file)
    return file


def remove(session: Session, file: File) -> None:
    """Take away the bytes, the preparations and their jobs; a worker that is preparing it finds its lease gone."""
    prepared = select(Preparation.id).where(Preparation.file_id == file.id)
    session.execute(sql_delete(Job).where(Job.preparation_id.in_(prepared)))
    session.execute(sql_delete(Preparation).where(Preparation.file_id == file.id))
    file.deleted_at, file.blob_id, file.preparation_id = func.now(), None, None
    session.flush()


def remove_expired(session: Session) -> list[str]:
    """Delete some files past their `expires_at` that no unfinished job needs; returns their ids."""
    expired = session.scalars(
        select(File)
        .where(File.expires_at < func.now(), File.deleted_at.is_(None), ~use.has_unfinished_jobs())
        .order_by(File.expires_at)
        .with_for_update(skip_locked=True)
        .limit(REMOVED_AT_ONCE)
    ).all()
    # Asked again behind the lock: a job may have been created on the file in between.
    removed = [file for file in expired if not use.unfinished_jobs_of_file(session, file)]
    for file in removed:
        remove(session, file)
    return [file.id for file in removed]
