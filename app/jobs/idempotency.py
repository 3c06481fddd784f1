"""Requests that must act once: the first to insert its key acts; a twin waits for it at the unique index."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db import run_once
from app.tables import IdempotentRequest

KEPT_FOR = timedelta(days=1)
FORGOTTEN_AT_ONCE = 1000


@dataclass(frozen=True)
class Recorded:
    """What the first request of a key asked for, and what it was answered."""

    body_sha256: str
    response: dict[str, Any]


def begin(
    session: Session, project_id: str, key: str, body_sha256: str, *, replace: ColumnElement[bool]
) -> Recorded | None:
    """None: the caller acts now and calls `record` in the same transaction. Otherwise the answer that there is.

    `replace` says of a row with the same key that it does not count any more.
    """
    values = {"body_sha256": body_sha256, "response": None, "created_at": func.clock_timestamp()}
    statement = (
        insert(IdempotentRequest)
        .values(project_id=project_id, key=key, **values)
        .on_conflict_do_update(index_elements=["project_id", "key"], set_=values, where=replace)
        .returning(IdempotentRequest.key)
    )
    if session.execute(statement).one_or_none() is not None:
        return None
    row = session.execute(
        select(IdempotentRequest.body_sha256, IdempotentRequest.response).where(
            IdempotentRequest.project_id == project_id, IdempotentRequest.key == key
        )
    ).one()
    return Recorded(row.body_sha256, row.response)


def record(session: Session, project_id: str, key: str, response: dict[str, Any]) -> None:
    """Keep the answer for twins and retries."""
    session.execute(
        update(IdempotentRequest)
        .where(IdempotentRequest.project_id == project_id, IdempotentRequest.key == key)
        .values(response=response)
    )


def older_than(age: timedelta) -> ColumnElement[bool]:
    """The condition that a row was made longer ago than this."""
    return IdempotentRequest.created_at < func.clock_timestamp() - age


def by_first_request() -> ColumnElement[bool]:
    """The condition that a row was made by a request that was no retry."""
    return IdempotentRequest.response["retry"].as_boolean().is_(False)


def forget(session: Session) -> int:
    """Delete some rows older than a day; returns how many."""
    old = (
        select(IdempotentRequest.project_id, IdempotentRequest.key)
        .where(older_than(KEPT_FOR))
        .limit(FORGOTTEN_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    key = tuple_(IdempotentRequest.project_id, IdempotentRequest.key)
    return len(
        session.execute(delete(IdempotentRequest).where(key.in_(run_once(old))).returning(IdempotentRequest.key)).all()
    )
