"""Preparations: a file read as records of a task, once for all jobs that ask for the same reading."""

import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import PurePath
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db import run_once
from app.jobs import events
from app.jobs.events import Event
from app.jobs.leases import JobError
from app.storage.blobs import BlobRef
from app.tables import TERMINAL_STATUSES, File, Job, Preparation, new_id

VERSION = 5  # of what a preparation makes; another one prepares files anew
JOBS_KEPT_FOR = timedelta(days=7)
FORGOTTEN_AT_ONCE = 100
TRANSIENT = frozenset({"worker_lost", "system_error", "preparation_timeout"})


@dataclass(frozen=True)
class Reading:
    """How a file is to be read: as which task, with which columns, measured in whose tokens.

    `options` are those of the task that records depend on (`TaskSpec.reading`). `extras` are columns of the file that
    are kept beside the task's fields, each as `records.extra(column)`. Without a task, or without the option
    that names its variant, they are told from the file.
    """

    task: str | None
    options: dict[str, Any]
    columns: dict[str, str]
    model: str | None
    extras: tuple[str, ...] = ()

    def key(self, file: File) -> str:
        """Hash of everything the result depends on; the endings of a name help to tell the format."""
        endings = "".join(PurePath(file.filename).suffixes[-2:]).lower()
        columns, options = sorted(self.columns.items()), sorted(self.options.items())
        facts = [VERSION, file.sha256, endings, self.task, options, columns, self.model, *sorted(self.extras)]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def ensure(session: Session, file: File, reading: Reading, *, max_attempts: int) -> Preparation:
    """The preparation of a file for a reading, found or asked for.

    Two requests at once share one row. A failure that says nothing about the file (a lost worker) is tried again.
    """
    told = _told_from_the_file(session, file, reading)
    if told is not None:
        return told
    key = reading.key(file)
    session.execute(
        insert(Preparation)
        .values(
            id=new_id("prep"),
            project_id=file.project_id,
            file_id=file.id,
            key=key,
            task=reading.task,
            options=reading.options,
            columns=reading.columns,
            extras=sorted(reading.extras),
            model=reading.model,
            status="pending",
        )
        .on_conflict_do_nothing()
    )
    preparation = session.scalars(
        select(Preparation).where(Preparation.file_id == file.id, Preparation.key == key).with_for_update()
    ).one()
    if preparation.status == "error" and (preparation.error or {}).get("code") in TRANSIENT:
        preparation.status, preparation.error = "pending", None
    if preparation.status == "pending" and not _is_underway(session, preparation):
        _copy_or_queue(session, file, preparation, max_attempts)
    return preparation


def _told_from_the_file(session: Session, file: File, reading: Reading) -> Preparation | None:
    """A preparation that was left to find task or variant, and found just those that are asked for now."""
    if reading.task is None:
        return None
    found = session.scalars(
        select(Preparation).where(
            Preparation.file_id == file.id,
            Preparation.status == "processed",
            Preparation.columns == reading.columns,
            Preparation.extras == sorted(reading.extras),
            Preparation.model.is_not_distinct_from(reading.model),
            Preparation.report["task"].as_string() == reading.task,
        )
    )
    return next((item for item in found if _is_same(item, reading)), None)


def _is_same(preparation: Preparation, reading: Reading) -> bool:
    """Whether it was asked for with no other options, and found those that are asked for now."""
    found = (preparation.report or {}).get("options", {})
    return preparation.options.items() <= reading.options.items() <= found.items()


def _is_underway(session: Session, preparation: Preparation) -> bool:
    query = select(Job.id).where(Job.preparation_id == preparation.id, Job.status.in_(("queued", "running")))
    return session.scalar(query.limit(1)) is not None


def _copy_or_queue(session: Session, file: File, preparation: Preparation, max_attempts: int) -> None:
    """Equal bytes read equally before, in this project, need no second reading."""
    twin = session.scalar(
        select(Preparation)
        .where(
            Preparation.key == preparation.key,
            Preparation.project_id == file.project_id,
            Preparation.status == "processed",
        )
        .limit(1)
        .with_for_update(read=True)
    )
    if twin is not None:
        preparation.status, preparation.blob_id, preparation.report = "processed", twin.blob_id, twin.report
        preparation.finished_at = func.now()
        session.flush()
        return
    job = Job(
        id=new_id("prepjob"),
        project_id=file.project_id,
        kind="preparation",
        queue="control",
        status="queued",
        preparation_id=preparation.id,
        max_attempts=max_attempts,
    )
    session.add(job)
    session.flush()
    events.append(
        session, job.id, [Event(f"Preparing file {file.id} as {preparation.task or 'the task it looks like'}")]
    )


def succeed(session: Session, preparation_id: str, records: BlobRef, report: dict[str, Any]) -> None:
    """Publish the records and the report, and tell the file's owner."""
    session.execute(
        update(Preparation)
        .where(Preparation.id == preparation_id)
        .values(status="processed", blob_id=records.id, report=report, error=None, finished_at=func.now())
    )
    _tell_file(session, preparation_id, "processed", None)


def fail(session: Session, preparation_id: str, error: dict[str, Any]) -> None:
    """Keep the reason, and tell the file's owner."""
    session.execute(
        update(Preparation)
        .where(Preparation.id == preparation_id)
        .values(status="error", error=error, finished_at=func.now())
    )
    _tell_file(session, preparation_id, "error", error["message"])


def settle_ended(session: Session, jobs: list[Job]) -> None:
    """Preparation jobs that ended without a result (worker lost, cancelled) fail their preparation."""
    for job in jobs:
        if job.preparation_id is not None and job.status in ("failed", "cancelled"):
            cancelled = JobError("system_error", "The preparation was cancelled.").to_json()
            fail(session, job.preparation_id, job.error or cancelled)


def forget_jobs(session: Session) -> int:
    """Delete some jobs that prepared a file and ended a while ago, with their events; returns how many.

    What came of them stays with the preparation, as long as its file.
    """
    old = (
        select(Job.id)
        .where(
            Job.kind == "preparation",
            Job.status.in_(TERMINAL_STATUSES),
            Job.finished_at < func.now() - JOBS_KEPT_FOR,
        )
        .limit(FORGOTTEN_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    return len(session.execute(delete(Job).where(Job.id.in_(run_once(old))).returning(Job.id)).all())


def _tell_file(session: Session, preparation_id: str, status: str, details: str | None) -> None:
    session.execute(
        update(File).where(File.preparation_id == preparation_id).values(status=status, status_details=details)
    )


def show_on_file(file: File, preparation: Preparation) -> None:
    """Make this the preparation that the file's status and report speak of."""
    file.preparation_id = preparation.id
    file.status = {"pending": "uploaded", "processed": "processed", "error": "error"}[preparation.status]
    file.status_details = preparation.error["message"] if preparation.error else None
