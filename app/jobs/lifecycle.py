"""States of a job and the one function that changes them.

validating_files -> queued -> running -> succeeded | failed | cancelled; a running job goes back to queued when its
worker is lost or drained, and a job that has not ended can be paused and resumed.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, Float, extract, func, update
from sqlalchemy.orm import Session

from app.jobs import events
from app.jobs.events import Event
from app.tables import TERMINAL_STATUSES, Job
from app.webhooks import outbox

NEXT: dict[str, frozenset[str]] = {
    "validating_files": frozenset({"queued", "paused", "failed", "cancelled"}),
    "queued": frozenset({"running", "paused", "cancelled"}),
    "running": frozenset({"succeeded", "failed", "cancelled", "queued", "paused"}),
    "paused": frozenset({"queued", "cancelled"}),
    "succeeded": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}


def change(
    session: Session,
    to: str,
    *guards: ColumnElement[bool],
    event: Callable[[Job], Event],
    **values: Any,
) -> list[Job]:
    """Move every job that meets the guards and may go there to state `to`, and append its event and its webhooks.

    One UPDATE: of two callers with the same guard, one changes the job and the other gets an empty list. Leaving
    `running` gives up the lease and adds to `run_seconds`, and an end sets `finished_at`. Returns the jobs as they are
    afterwards.
    """
    sources = [state for state, following in NEXT.items() if to in following]
    if to == "running":
        values |= {"claimed_at": func.now()}
    else:
        values |= {"lease_token": None, "lease_owner": None, "lease_expires_at": None}
        values |= {"claimed_at": None, "estimated_finish": None, "run_seconds": Job.run_seconds + _lasted_s()}
    if to in TERMINAL_STATUSES:
        values |= {"finished_at": func.now()}
    changed = session.scalars(
        update(Job).where(Job.status.in_(sources), *guards).values(status=to, **values).returning(Job),
        execution_options={"populate_existing": True, "synchronize_session": False},
    ).all()
    for job in changed:
        events.append(session, job.id, [event(job)])
        if to in TERMINAL_STATUSES:
            outbox.job_ended(session, job)
    return list(changed)


def _lasted_s() -> ColumnElement[float]:
    """Seconds since the job was claimed, those in which a lost worker was waited for included; 0 if nobody holds it."""
    return func.coalesce(extract("epoch", func.now() - Job.claimed_at).cast(Float), 0.0)


def next_states(status: str) -> list[str]:
    """What may follow a state, for error messages."""
    return sorted(NEXT[status])
