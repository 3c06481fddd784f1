"""Who holds a job: single UPDATEs, each safe to repeat, each fenced by the lease's token.

A worker owns a job while it renews its lease. Losing, doubling or delaying a wake-up changes when a job is claimed and
never by how many; a worker that was declared lost can change nothing any more, because its token is gone.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from app.jobs.events import Event
from app.jobs.lifecycle import change
from app.tables import Job


@dataclass(frozen=True)
class Intents:
    """What a client wants of a running job."""

    cancel: bool
    pause: bool


INTENTS = (Job.cancel_requested_at.is_not(None), Job.pause_requested_at.is_not(None))


@dataclass(frozen=True)
class Progress:
    """Where a job stands, and in how many seconds it will be done."""

    values: dict[str, Any]
    eta_s: float | None


@dataclass(frozen=True)
class JobError:
    """Why a job failed, in the form the job object shows."""

    code: str
    message: str
    param: str | None = None
    data: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """`{code, message, param}`, and `data` where there is more to say."""
        error = {"code": self.code, "message": self.message, "param": self.param}
        return error | ({"data": self.data} if self.data else {})


def claim(session: Session, *, owner: str, queues: Sequence[str], lease: timedelta) -> Job | None:
    """Take the oldest waiting job of these queues: to running, attempt + 1, a new token. None if nothing waits."""
    oldest = (
        select(Job.id)
        .where(Job.status == "queued", Job.queue.in_(queues), or_(Job.run_after.is_(None), Job.run_after <= func.now()))
        .order_by(Job.seq)
        .limit(1)
        .with_for_update(key_share=True, skip_locked=True)
        .scalar_subquery()
    )
    claimed = change(
        session,
        "running",
        Job.id == oldest,
        attempt=Job.attempt + 1,
        lease_token=uuid.uuid4(),
        lease_owner=owner,
        lease_expires_at=func.now() + lease,
        started_at=func.coalesce(Job.started_at, func.now()),
        run_after=None,
        event=lambda job: Event(
            "Job started"
            if job.started_at == job.claimed_at
            else f"Job started again (attempt {job.attempt} of {job.max_attempts})",
            data={"attempt": job.attempt, "worker": owner},
        ),
    )
    return claimed[0] if claimed else None


def renew(session: Session, token: uuid.UUID, *, lease: timedelta, progress: Progress | None) -> Intents | None:
    """Push the expiry, store progress, return what the client wants. None: the lease is lost, stop."""
    values: dict[str, Any] = {"lease_expires_at": func.now() + lease}
    if progress is not None:
        values["progress"] = progress.values
        if progress.eta_s is not None:
            values["estimated_finish"] = func.now() + timedelta(seconds=progress.eta_s)
    row = session.execute(
        update(Job).where(Job.lease_token == token).values(values).returning(*INTENTS),
        execution_options={"synchronize_session": False},
    ).one_or_none()
    return None if row is None else Intents(*row)


def intents(session: Session, token: uuid.UUID) -> Intents | None:
    """What the client wants, without renewing. None: the lease is lost, stop."""
    row = session.execute(select(*INTENTS).where(Job.lease_token == token)).one_or_none()
    return None if row is None else Intents(*row)


def hold(session: Session, token: uuid.UUID) -> Job | None:
    """The job, locked for this transaction if the lease still stands: the guard of everything a worker writes."""
    return session.scalar(select(Job).where(Job.lease_token == token).with_for_update(key_share=True))


def finish(session: Session, token: uuid.UUID, status: str, event: Event, **values: Any) -> Job | None:
    """To a terminal state, publishing results (`values`). None: the lease is lost, discard everything."""
    ended = change(session, status, Job.lease_token == token, event=lambda _: event, **values)
    return ended[0] if ended else None


def release(session: Session, token: uuid.UUID, reason: str) -> Job | None:
    """Give the job back without spending an attempt: to paused where the client wants that, else to queued."""
    paused = change(
        session,
        "paused",
        Job.lease_token == token,
        Job.pause_requested_at.is_not(None),
        attempt=Job.attempt - 1,
        event=lambda _: PAUSED,
    )
    if paused:
        return paused[0]
    freed = change(
        session,
        "queued",
        Job.lease_token == token,
        attempt=Job.attempt - 1,
        event=lambda _: Event(reason, level="warn"),
    )
    return freed[0] if freed else None


def retry(
    session: Session, token: uuid.UUID, event: Event, *, delay: timedelta = timedelta(0), **values: Any
) -> Job | None:
    """Back to queued with the attempt spent, to be claimed after `delay`."""
    freed = change(
        session, "queued", Job.lease_token == token, run_after=func.now() + delay, event=lambda _: event, **values
    )
    return freed[0] if freed else None


PAUSED = Event("Job paused; it holds no worker and goes on from its last checkpoint when it is resumed")
WORKER_LOST = JobError(
    "worker_lost", "The worker running this job was lost as often as TAILOR_MAX_ATTEMPTS allows; see the job's events."
)


def reap(session: Session) -> list[Job]:
    """Expired leases: cancelled if asked for, failed `worker_lost` without attempts left, else paused or queued."""
    expired = Job.lease_expires_at < func.now()
    cancelled = change(
        session,
        "cancelled",
        expired,
        Job.cancel_requested_at.is_not(None),
        event=lambda _: Event("Job cancelled; its worker had been lost"),
    )
    failed = change(
        session,
        "failed",
        expired,
        Job.attempt >= Job.max_attempts,
        error=WORKER_LOST.to_json(),
        event=lambda job: Event(f"Worker lost in attempt {job.attempt} of {job.max_attempts}; job failed", "error"),
    )
    paused = change(
        session,
        "paused",
        expired,
        Job.pause_requested_at.is_not(None),
        event=lambda _: Event("Job paused; its worker had been lost, so it goes on from its last checkpoint", "warn"),
    )
    queued = change(
        session,
        "queued",
        expired,
        event=lambda job: Event(
            f"Worker lost in attempt {job.attempt} of {job.max_attempts}; job queued again", "warn"
        ),
    )
    return cancelled + failed + paused + queued


def release_all(session: Session, reason: str) -> list[Job]:
    """Free every running job without spending an attempt: all workers are known to be gone. Intents are obeyed."""
    held = Job.lease_token.is_not(None)
    cancelled = change(
        session,
        "cancelled",
        held,
        Job.cancel_requested_at.is_not(None),
        event=lambda _: Event("Job cancelled; its worker is gone"),
    )
    unspent = {"attempt": Job.attempt - 1}
    paused = change(
        session, "paused", held, Job.pause_requested_at.is_not(None), event=lambda _: Event(reason, "warn"), **unspent
    )
    queued = change(session, "queued", held, event=lambda _: Event(reason, "warn"), **unspent)
    return cancelled + paused + queued
