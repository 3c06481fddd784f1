"""Worker processes: who is there, and when each was last heard of."""

from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.tables import Worker

SILENT_AFTER = timedelta(minutes=2)
FORGOTTEN_AFTER = timedelta(days=1)


def report(session: Session, *, id_: str, kind: str, host: str, pid: int) -> None:
    """A sign of life."""
    statement = insert(Worker).values(id=id_, kind=kind, host=host, pid=pid)
    session.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"seen_at": func.now()}))


def leave(session: Session, id_: str) -> None:
    """The worker ends on purpose."""
    session.execute(delete(Worker).where(Worker.id == id_))


def forget_silent(session: Session) -> int:
    """Delete workers that were not heard of for a day; returns how many."""
    silent = Worker.seen_at < func.now() - FORGOTTEN_AFTER
    return len(session.execute(delete(Worker).where(silent).returning(Worker.id)).all())


def count(session: Session) -> dict[str, int]:
    """Workers heard of lately, by kind."""
    seen = Worker.seen_at > func.now() - SILENT_AFTER
    rows = session.execute(select(Worker.kind, func.count()).where(seen).group_by(Worker.kind))
    return {"training": 0, "control": 0} | {row.kind: row[1] for row in rows}


def last_seen(session: Session, kind: str, host: str) -> datetime | None:
    """When a worker of this kind on this host was last heard of, if that was lately."""
    return session.scalar(
        select(func.max(Worker.seen_at)).where(
            Worker.kind == kind, Worker.host == host, Worker.seen_at > func.now() - SILENT_AFTER
        )
    )
