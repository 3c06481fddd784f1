"""Deliveries: claimed, settled, tried again, replayed and forgotten. Sending itself happens outside any transaction.

The pattern is that of jobs: one that is claimed belongs to its sender until its lease runs out, and what comes back
is fenced by the lease's token, so that a slow sender cannot undo what happened in the meantime.
"""

import random
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import case, delete, func, select, true, update
from sqlalchemy.orm import Session

from app.errors import AppError, not_found
from app.tables import WebhookAttempt, WebhookDelivery, WebhookEndpoint

RETRY_AFTER = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 30, 120, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 24 * 3600)  # two days in all
)
JITTER = 0.2  # of each delay, either way: endpoints that fell together do not come back together
GIVE_UP_AFTER, GIVE_UP_FAILURES = timedelta(days=5), 20
GONE = 410
SENDER_LOST = "The sender ended before the answer came; the delivery was sent again."


@dataclass(frozen=True)
class Claimed:
    """A delivery to send now: what, where, signed with which secrets, as of which moment."""

    id: str
    endpoint_id: str
    url: str
    event_id: str
    body: str
    attempt: int
    token: uuid.UUID
    started_at: datetime
    secrets: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt. `error` is None for a success; without a status code no answer came."""

    duration_ms: int
    status_code: int | None
    error: str | None
    response: str | None


def claim(session: Session, *, limit: int, per_endpoint: int, busy: Collection[str], lease: timedelta) -> list[Claimed]:
    """Take due deliveries: at most `limit`, and `per_endpoint` of each endpoint that is not `busy`, or 1 if it fails.

    So an endpoint with a long queue, or one that is dead, keeps nobody else waiting. Rows that another sender takes
    just now are skipped.
    """
    due = (
        select(WebhookDelivery.id, WebhookDelivery.next_attempt_at)
        .where(
            WebhookDelivery.endpoint_id == WebhookEndpoint.id,
            WebhookDelivery.status == "pending",
            WebhookDelivery.next_attempt_at <= func.now(),
        )
        .order_by(WebhookDelivery.next_attempt_at)
        .limit(case((WebhookEndpoint.failures > 0, 1), else_=per_endpoint))
        .with_for_update(skip_locked=True)
        .correlate(WebhookEndpoint)
        .lateral("due")
    )
    ids = session.scalars(
        select(due.c.id)
        .select_from(WebhookEndpoint)
        .join(due, onclause=true())
        .where(WebhookEndpoint.id.not_in(busy))
        .order_by(due.c.next_attempt_at)
        .limit(limit)
    ).all()
    taken = session.scalars(
        update(WebhookDelivery)
        .where(WebhookDelivery.id.in_(ids))
        .values(
            attempt=WebhookDelivery.attempt + 1, lease_token=func.gen_random_uuid(), next_attempt_at=func.now() + lease
        )
        .returning(WebhookDelivery),
        execution_options={"populate_existing": True, "synchronize_session": False},
    ).all()
    session.execute(
        update(WebhookAttempt)
        .where(WebhookAttempt.delivery_id.in_(ids), WebhookAttempt.duration_ms.is_(None))
        .values(error=SENDER_LOST)
    )
    attempts = [WebhookAttempt(delivery_id=delivery.id, number=delivery.attempt) for delivery in taken]
    session.add_all(attempts)
    session.flush()
    endpoints = {
        endpoint.id: endpoint
        for endpoint in session.scalars(
            select(WebhookEndpoint).where(WebhookEndpoint.id.in_({delivery.endpoint_id for delivery in taken}))
        )
    }
    return [
        _claimed(delivery, attempt, endpoints[delivery.endpoint_id])
        for delivery, attempt in zip(taken, attempts, strict=True)
    ]


def _claimed(delivery: WebhookDelivery, attempt: WebhookAttempt, endpoint: WebhookEndpoint) -> Claimed:
    assert delivery.lease_token is not None
    secrets = (endpoint.secret,)
    expires_at = endpoint.previous_secret_expires_at
    if endpoint.previous_secret is not None and expires_at is not None and expires_at > attempt.started_at:
        secrets += (endpoint.previous_secret,)
    return Claimed(
        id=delivery.id,
        endpoint_id=endpoint.id,
        url=endpoint.url,
        event_id=delivery.event_id,
        body=delivery.body,
        attempt=attempt.number,
        token=delivery.lease_token,
        started_at=attempt.started_at,
        secrets=secrets,
    )


def next_due_s(session: Session, busy: Collection[str]) -> float | None:
    """Seconds until a delivery of an endpoint that is not `busy` is due; None if nothing is pending."""
    soonest = session.scalar(
        select(func.min(WebhookDelivery.next_attempt_at) - func.clock_timestamp()).where(
            WebhookDelivery.status == "pending", WebhookDelivery.endpoint_id.not_in(busy)
        )
    )
    return None if soonest is None else max(0.0, soonest.total_seconds())


def settle(session: Session, claimed: Claimed, outcome: Outcome) -> None:
    """Log the attempt, and end the delivery or give it its next time.

    The endpoint is locked before the delivery, in the order of a delete. A delivery that was taken over, replayed or
    deleted meanwhile keeps its state; the attempt is logged all the same, for it was made.
    """
    endpoint = session.get(WebhookEndpoint, claimed.endpoint_id, with_for_update={"key_share": True})
    session.execute(
        update(WebhookAttempt)
        .where(WebhookAttempt.delivery_id == claimed.id, WebhookAttempt.number == claimed.attempt)
        .values(
            duration_ms=outcome.duration_ms,
            status_code=outcome.status_code,
            error=outcome.error,
            response=outcome.response,
        )
    )
    delivery = session.scalar(
        select(WebhookDelivery)
        .where(WebhookDelivery.id == claimed.id, WebhookDelivery.lease_token == claimed.token)
        .with_for_update()
    )
    if endpoint is None or delivery is None:
        return
    delivery.lease_token = None
    if outcome.error is None:
        _end(delivery, "succeeded")
    elif delivery.test or outcome.status_code == GONE or delivery.retry >= len(RETRY_AFTER):
        _end(delivery, "failed")
    else:
        delay = RETRY_AFTER[delivery.retry] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 (no secret)
        delivery.retry, delivery.next_attempt_at = delivery.retry + 1, func.now() + delay
    session.flush()
    if not delivery.test:
        _judge(session, endpoint, outcome)


def _end(delivery: WebhookDelivery, status: str) -> None:
    delivery.status, delivery.next_attempt_at, delivery.finished_at = status, None, func.now()


def _judge(session: Session, endpoint: WebhookEndpoint, outcome: Outcome) -> None:
    """Keep count of failures in a row, and disable an endpoint that is gone or has been failing for days."""
    if outcome.error is None:
        endpoint.failures, endpoint.failing_since = 0, None
        return
    now: datetime = session.scalars(select(func.now())).one()
    since = endpoint.failing_since or now
    endpoint.failures, endpoint.failing_since = endpoint.failures + 1, since
    if endpoint.status == "enabled" and outcome.status_code == GONE:
        disable(session, endpoint, "The endpoint answered 410 Gone.")
    elif endpoint.status == "enabled" and endpoint.failures >= GIVE_UP_FAILURES and now - since > GIVE_UP_AFTER:
        text = (
            f"All {endpoint.failures} attempts since {since:%Y-%m-%d %H:%M} UTC failed; the last one: {outcome.error}"
        )
        disable(session, endpoint, text)


def disable(session: Session, endpoint: WebhookEndpoint, reason: str) -> None:
    """Send nothing more to an endpoint, which the caller has locked, and end what is pending for it."""
    endpoint.status, endpoint.disabled_at, endpoint.disabled_reason = "disabled", func.now(), reason
    session.execute(
        update(WebhookDelivery)
        .where(
            WebhookDelivery.endpoint_id == endpoint.id,
            WebhookDelivery.status == "pending",
            WebhookDelivery.test.is_(False),
        )
        .values(status="failed", finished_at=func.now(), next_attempt_at=None, lease_token=None),
        execution_options={"synchronize_session": False},
    )


def get(session: Session, endpoint_id: str, delivery_id: str, param: str | None = None) -> WebhookDelivery:
    """The delivery. Raises AppError 404 if the endpoint has none with this id."""
    delivery = session.scalar(
        select(WebhookDelivery).where(WebhookDelivery.id == delivery_id, WebhookDelivery.endpoint_id == endpoint_id)
    )
    if delivery is None:
        raise not_found("webhook delivery", delivery_id, param)
    return delivery


def page(
    session: Session, endpoint_id: str, *, after: str | None, limit: int, status: str | None
) -> tuple[list[WebhookDelivery], bool]:
    """Deliveries newest first, and whether there are more."""
    query = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint_id)
    if status is not None:
        query = query.where(WebhookDelivery.status == status)
    if after is not None:
        query = query.where(WebhookDelivery.seq < get(session, endpoint_id, after, "after").seq)
    rows = list(session.scalars(query.order_by(WebhookDelivery.seq.desc()).limit(limit + 1)))
    return rows[:limit], len(rows) > limit


def attempts(session: Session, delivery_ids: Sequence[str]) -> dict[str, list[WebhookAttempt]]:
    """The attempts of each delivery, oldest first."""
    query = select(WebhookAttempt).where(WebhookAttempt.delivery_id.in_(delivery_ids))
    found: dict[str, list[WebhookAttempt]] = {delivery_id: [] for delivery_id in delivery_ids}
    for attempt in session.scalars(query.order_by(WebhookAttempt.number)):
        found[attempt.delivery_id].append(attempt)
    return found


def last_attempt_of_ended(session: Session, delivery_id: str) -> WebhookAttempt | None:
    """How a delivery ended; None while it is pending. Raises AppError 404 if its endpoint was deleted meanwhile."""
    status = session.scalar(select(WebhookDelivery.status).where(WebhookDelivery.id == delivery_id))
    if status is None:
        raise not_found("webhook delivery", delivery_id)
    if status == "pending":
        return None
    query = select(WebhookAttempt).where(WebhookAttempt.delivery_id == delivery_id)
    return session.scalars(query.order_by(WebhookAttempt.number.desc()).limit(1)).one()


def replay(session: Session, endpoint: WebhookEndpoint, delivery_id: str) -> WebhookDelivery:
    """Send the same event again, at once and with a new round of retries. One that is on its way just goes on.

    Raises AppError 404, and 409 for a disabled endpoint. The caller has locked the endpoint.
    """
    delivery = get(session, endpoint.id, delivery_id)
    if endpoint.status != "enabled":
        message = (
            f"Webhook endpoint {endpoint.id} is disabled ({endpoint.disabled_reason}) Update it with "
            '{"status": "enabled"}, then replay.'
        )
        raise AppError(409, "webhook_endpoint_disabled", message)
    session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.id == delivery.id, WebhookDelivery.lease_token.is_(None))
        .values(status="pending", retry=0, next_attempt_at=func.now(), finished_at=None),
        execution_options={"synchronize_session": False},
    )
    session.refresh(delivery)
    return delivery


def withdraw(session: Session, delivery_id: str) -> None:
    """End a delivery that nobody waits for any more."""
    session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.id == delivery_id, WebhookDelivery.status == "pending")
        .values(status="failed", finished_at=func.now(), next_attempt_at=None, lease_token=None)
    )


def forget(session: Session, *, kept_for: timedelta) -> int:
    """Delete secrets past their overlap, and ended deliveries older than this; returns how many deliveries."""
    session.execute(
        update(WebhookEndpoint)
        .where(WebhookEndpoint.previous_secret_expires_at < func.now())
        .values(previous_secret=None, previous_secret_expires_at=None),
        execution_options={"synchronize_session": False},
    )
    old = WebhookDelivery.finished_at < func.now() - kept_for
    gone = session.execute(
        delete(WebhookDelivery).where(WebhookDelivery.status != "pending", old).returning(WebhookDelivery.id)
    )
    return len(gone.all())
