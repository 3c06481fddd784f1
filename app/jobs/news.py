"""What happened to jobs since a client last looked: the read behind live event streams, for many of them at once.

Whoever appends an event holds its job's row lock (it has created, changed or locked the job), so within one job `seq`
is the order of commits: none appears later in front of one that was read. Across jobs that does not hold, hence a
position belongs to a job.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import BigInteger, Text, cast, func, select, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session, aliased

from app.errors import AppError
from app.tables import TERMINAL_STATUSES, Job, JobEvent

CHANNEL = "job_news"  # triggers notify it of a job's id after every insert of events and every change of progress


class Position(NamedTuple):
    """A place in a job's history: behind the event with this `seq`. 0 is before the first."""

    job_id: str
    seq: int = 0


@dataclass(frozen=True)
class News:
    """A job, and the events behind a position, oldest first. `has_more`: as many as were asked for, so read on."""

    job: Job
    events: list[JobEvent]
    has_more: bool

    @property
    def is_the_last(self) -> bool:
        """Whether nothing will follow: the job has ended, and these are all its events."""
        return self.job.status in TERMINAL_STATUSES and not self.has_more


def locate(session: Session, job_id: str, event_id: str | None, *, param: str) -> Position:
    """The place behind an event, or the beginning. Raises AppError 404 for an event that the job does not have."""
    if event_id is None:
        return Position(job_id)
    seq = session.scalar(select(JobEvent.seq).where(JobEvent.job_id == job_id, JobEvent.id == event_id))
    if seq is None:
        raise AppError(
            404,
            "event_not_found",
            f"{param} is {event_id!r}, which is no event of job {job_id}; give the id of the last event that you have, "
            f"or leave {param} out to get all from the first on.",
            param,
        )
    return Position(job_id, seq)


def read(session: Session, positions: Sequence[Position], *, limit: int) -> Mapping[Position, News]:
    """The news at each position, at most `limit` events each. A position whose job is gone is left out.

    The jobs are read before the events: a job that is seen to have ended committed its last event earlier.
    """
    job_ids = {position.job_id for position in positions}
    jobs = {job.id: job for job in session.scalars(select(Job).where(Job.id.in_(job_ids)))}
    asked = (
        func.unnest(
            cast([position.job_id for position in positions], ARRAY(Text)),
            cast([position.seq for position in positions], ARRAY(BigInteger)),
        )
        .table_valued("job_id", "seq", name="asked")
        .render_derived()
    )
    following = (
        select(JobEvent)
        .where(JobEvent.job_id == asked.c.job_id, JobEvent.seq > asked.c.seq)
        .order_by(JobEvent.seq)
        .limit(limit)
        .lateral()
    )
    event = aliased(JobEvent, following)
    found: dict[Position, list[JobEvent]] = {position: [] for position in positions if position.job_id in jobs}
    rows = session.execute(
        select(asked.c.job_id, asked.c.seq, event).select_from(asked).join(following, true()).order_by(event.seq)
    )
    for job_id, seq, row in rows:
        if job_id in jobs:
            found[Position(job_id, seq)].append(row)
    return {position: News(jobs[position.job_id], events, len(events) == limit) for position, events in found.items()}
