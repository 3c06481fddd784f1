"""What clients do with webhook endpoints: create, list, look at, change, delete, rotate the secret."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import delete as sql_delete
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.errors import AppError, not_found
from app.projects import Caller
from app.tables import Project, WebhookEndpoint, new_id
from app.webhooks import deliveries, signatures

OVERLAP = timedelta(hours=24)  # the SDK's `keep_old_secret_active_for_24_hours`
DISABLED_BY_CLIENT = "Disabled over the API."


@dataclass(frozen=True)
class NewEndpoint:
    """An endpoint as asked for; its URL has been checked."""

    name: str
    url: str
    event_types: Sequence[str]


@dataclass(frozen=True)
class Changes:
    """What to change of an endpoint; None leaves a field as it is."""

    name: str | None = None
    url: str | None = None
    event_types: Sequence[str] | None = None
    enabled: bool | None = None


def create(session: Session, caller: Caller, new: NewEndpoint, *, limit: int) -> WebhookEndpoint:
    """Write the endpoint with a new secret. Raises AppError 400 where the project has `limit` endpoints already."""
    session.scalars(select(Project.id).where(Project.id == caller.project_id).with_for_update(key_share=True)).one()
    count = session.scalars(
        select(func.count()).select_from(WebhookEndpoint).where(WebhookEndpoint.project_id == caller.project_id)
    ).one()
    if count >= limit:
        message = (
            f"The project has {count} webhook endpoints, and TAILOR_MAX_WEBHOOK_ENDPOINTS allows {limit}; delete one "
            "first, or let one endpoint hear of more event types."
        )
        raise AppError(400, "too_many_webhook_endpoints", message)
    endpoint = WebhookEndpoint(
        id=new_id("webhook"),
        project_id=caller.project_id,
        name=new.name,
        url=new.url,
        event_types=list(new.event_types),
        secret=signatures.new_secret(),
    )
    session.add(endpoint)
    session.flush()
    session.refresh(endpoint)
    return endpoint


def get(session: Session, caller: Caller, endpoint_id: str, *, lock: bool = False) -> WebhookEndpoint:
    """The endpoint, locked for this transaction if asked. Raises AppError 404 if the project has none with this id."""
    query = select(WebhookEndpoint).where(
        WebhookEndpoint.id == endpoint_id, WebhookEndpoint.project_id == caller.project_id
    )
    endpoint = session.scalar(query.with_for_update(key_share=True) if lock else query)
    if endpoint is None:
        raise not_found("webhook endpoint", endpoint_id)
    return endpoint


def page(session: Session, caller: Caller, *, after: str | None, limit: int) -> tuple[list[WebhookEndpoint], bool]:
    """Endpoints newest first, and whether there are more."""
    query = select(WebhookEndpoint).where(WebhookEndpoint.project_id == caller.project_id)
    if after is not None:
        query = query.where(WebhookEndpoint.seq < get(session, caller, after).seq)
    rows = list(session.scalars(query.order_by(WebhookEndpoint.seq.desc()).limit(limit + 1)))
    return rows[:limit], len(rows) > limit


def update(session: Session, caller: Caller, endpoint_id: str, changes: Changes) -> WebhookEndpoint:
    """Apply the changes. A new URL and a new start forget past failures; disabling ends what is pending."""
    endpoint = get(session, caller, endpoint_id, lock=True)
    event_types = None if changes.event_types is None else list(changes.event_types)
    wanted: dict[str, Any] = {"name": changes.name, "url": changes.url, "event_types": event_types}
    changed = {name: value for name, value in wanted.items() if value is not None and value != getattr(endpoint, name)}
    for name, value in changed.items():
        setattr(endpoint, name, value)
    switched = changes.enabled is not None and changes.enabled != (endpoint.status == "enabled")
    if switched and not changes.enabled:
        deliveries.disable(session, endpoint, DISABLED_BY_CLIENT)
    elif switched:
        endpoint.status, endpoint.disabled_at, endpoint.disabled_reason = "enabled", None, None
    if "url" in changed or switched:
        endpoint.failures, endpoint.failing_since = 0, None
    if changed or switched:
        endpoint.updated_at = func.now()
    session.flush()
    session.refresh(endpoint)
    return endpoint


def rotate_secret(session: Session, caller: Caller, endpoint_id: str, *, keep_old: bool) -> WebhookEndpoint:
    """A new secret; the old one goes on signing beside it for a day, or ends at once."""
    endpoint = get(session, caller, endpoint_id, lock=True)
    endpoint.previous_secret = endpoint.secret if keep_old else None
    endpoint.previous_secret_expires_at = func.now() + OVERLAP if keep_old else None
    endpoint.secret = signatures.new_secret()
    endpoint.updated_at = func.now()
    session.flush()
    session.refresh(endpoint)
    return endpoint


def delete(session: Session, caller: Caller, endpoint_id: str) -> None:
    """Delete the endpoint, its secret, its log and what is pending for it."""
    endpoint = get(session, caller, endpoint_id)
    session.execute(sql_delete(WebhookEndpoint).where(WebhookEndpoint.id == endpoint.id))
