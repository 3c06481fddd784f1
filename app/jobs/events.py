"""A job's history: events and metrics, appended in order and each stored once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.errors import not_found
from app.tables import JobEvent, JobMetric, new_id

Level = Literal["info", "warn", "error"]


@dataclass(frozen=True)
class Event:
    """A line of history. `source` (lease and number) makes sending it again harmless."""

    message: str
    level: Level = "info"
    type: Literal["message", "metrics"] = "message"
    data: dict[str, Any] = field(default_factory=dict)
    source: str | None = None


@dataclass(frozen=True)
class MetricPoint:
    """One number at one step."""

    split: str
    name: str
    step: int
    epoch: float
    value: float
    stage: str | None = None  # none: the training of the job's task


def append(session: Session, job_id: str, events: Sequence[Event]) -> None:
    """Append events in their order; one whose `source` is stored already is left out.

    Whoever appends holds the job's row lock (or made the row), so that a job's events become visible in the order of
    their `seq`: who has read up to one will find every later one behind it.
    """
    if events:
        rows = [
            {
                "id": new_id("evalevent" if job_id.startswith("eval-") else "ftevent"),
                "job_id": job_id,
                "level": event.level,
                "type": event.type,
                "message": event.message,
                "data": event.data,
                "source": event.source,
            }
            for event in events
        ]
        session.execute(insert(JobEvent).values(rows).on_conflict_do_nothing(index_elements=["job_id", "source"]))


def record_metrics(session: Session, job_id: str, points: Sequence[MetricPoint]) -> None:
    """Store numbers; a step that is trained again after a resume overwrites its own."""
    if points:
        unique = {(point.stage, point.split, point.name, point.step): point for point in points}
        rows = [
            {
                "job_id": job_id,
                "stage": point.stage,
                "split": point.split,
                "name": point.name,
                "step": point.step,
                "epoch": point.epoch,
                "value": point.value,
            }
            for point in unique.values()
        ]
        statement = insert(JobMetric).values(rows)
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["job_id", "stage", "split", "name", "step"],
                set_={
                    "value": statement.excluded.value,
                    "epoch": statement.excluded.epoch,
                    "created_at": func.clock_timestamp(),
                },
            )
        )


def page(session: Session, job_id: str, *, after: str | None, limit: int) -> tuple[list[JobEvent], bool]:
    """Events newest first, from behind the event `after`, and whether there are more."""
    query = select(JobEvent).where(JobEvent.job_id == job_id)
    if after is not None:
        cursor = session.scalar(select(JobEvent.seq).where(JobEvent.job_id == job_id, JobEvent.id == after))
        if cursor is None:
            raise not_found("event", after, "after")
        query = query.where(JobEvent.seq < cursor)
    rows = list(session.scalars(query.order_by(JobEvent.seq.desc()).limit(limit + 1)))
    return rows[:limit], len(rows) > limit


def metrics(session: Session, job_id: str, name: str | None = None) -> list[JobMetric]:
    """The job's numbers in the order of their steps."""
    query = select(JobMetric).where(JobMetric.job_id == job_id)
    if name is not None:
        query = query.where(JobMetric.name == name)
    return list(session.scalars(query.order_by(JobMetric.step, JobMetric.seq)))
