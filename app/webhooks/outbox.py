"""What is told to whom: deliveries written in the transaction of the change they tell of."""

import json
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from app.tables import Job, WebhookDelivery, WebhookEndpoint, new_id

EVENTS_OF_KIND = {"fine_tuning": "fine_tuning.job", "evaluation": "evaluation"}
EVENT_TYPES = tuple(
    f"{event}.{status}" for event in EVENTS_OF_KIND.values() for status in ("succeeded", "failed", "cancelled")
)
SAMPLE_JOB_ID = "ftjob-" + "0" * 30
SAMPLE_EVALUATION_ID = "eval-" + "0" * 30


def job_ended(session: Session, job: Job) -> None:
    """Write a delivery for every enabled endpoint of the project that subscribed to how this job ended.

    The endpoints are locked until the commit: one that is being deleted or disabled just now comes first, and then
    hears nothing, or waits, and then ends this delivery with its others.
    """
    kind = EVENTS_OF_KIND.get(job.kind)
    if kind is None or job.finished_at is None:
        return
    event_type = f"{kind}.{job.status}"
    subscribed = session.scalars(
        select(WebhookEndpoint.id)
        .where(
            WebhookEndpoint.project_id == job.project_id,
            WebhookEndpoint.status == "enabled",
            WebhookEndpoint.event_types.contains([event_type]),
        )
        .order_by(WebhookEndpoint.seq)
        .with_for_update(read=True)
    ).all()
    if subscribed:
        event_id = new_id("evt")
        body = _body(event_id, event_type, job.finished_at, job.id)
        _write(session, subscribed, event_id, event_type, body, test=False)


def write_test(session: Session, endpoint: WebhookEndpoint, event_type: str) -> str:
    """Write a delivery of a sample event, which is sent once, whatever the endpoint's state. Returns its id."""
    event_id = new_id("evt")
    now = session.scalars(select(func.now())).one()
    sample = SAMPLE_EVALUATION_ID if event_type.startswith("evaluation.") else SAMPLE_JOB_ID
    body = _body(event_id, event_type, now, sample)
    return _write(session, [endpoint.id], event_id, event_type, body, test=True)[0]


def _body(event_id: str, event_type: str, moment: datetime, job_id: str) -> str:
    event = {
        "id": event_id,
        "object": "event",
        "type": event_type,
        "created_at": int(moment.timestamp()),
        "data": {"id": job_id},
    }
    return json.dumps(event, separators=(",", ":"))


def _write(
    session: Session, endpoint_ids: Sequence[str], event_id: str, event_type: str, body: str, *, test: bool
) -> list[str]:
    deliveries = {new_id("delivery"): endpoint_id for endpoint_id in endpoint_ids}
    rows = [
        {
            "id": delivery_id,
            "endpoint_id": endpoint_id,
            "event_id": event_id,
            "event_type": event_type,
            "body": body,
            "test": test,
        }
        for delivery_id, endpoint_id in deliveries.items()
    ]
    session.execute(insert(WebhookDelivery).values(rows))
    return list(deliveries)
