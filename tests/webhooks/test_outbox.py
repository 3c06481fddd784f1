"""What is written when a job ends, how long it is kept, and what is never written."""

import json
import threading
from datetime import timedelta

import pytest
from sqlalchemy import func, update

from app.db import SessionFactory, transaction
from app.jobs import leases, service
from app.jobs.events import Event
from app.tables import Job, WebhookDelivery
from app.webhooks import deliveries, endpoints
from app.webhooks.endpoints import Changes
from tests.webhooks.conftest import Desk
from tests.webhooks.receiver import Receiver
from worker.cleaning import Cleaning
from worker.webhooks import LEASE


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_an_ended_job_leaves_one_delivery_for_each_endpoint(desk: Desk, status: str):
    first, second = desk.endpoint("https://a.example/"), desk.endpoint("https://b.example/")

    job = desk.end_job(status)

    written = desk.all(WebhookDelivery)
    assert [row.endpoint_id for row in written] == [first.id, second.id]
    assert len({row.event_id for row in written}) == 1
    event = json.loads(written[0].body)
    assert (event["type"], event["data"]) == (f"fine_tuning.job.{status}", {"id": job.id})
    assert event["created_at"] == int(job.finished_at.timestamp())


@pytest.mark.parametrize(
    ("fields", "event_types"),
    [
        ({"attempt": 1}, ["fine_tuning.job.failed"]),
        ({"attempt": 1, "cancel_requested_at": func.now()}, ["fine_tuning.job.cancelled"]),
        ({"attempt": 0}, []),
    ],
)
def test_a_job_whose_worker_was_lost_is_told_of_once_and_only_if_that_ends_it(desk: Desk, fields, event_types):
    desk.endpoint("https://a.example/")
    desk.running_job(lease_expires_at=func.now() - timedelta(seconds=1), **fields)

    for _ in range(2):
        with transaction(desk.sessions) as session:
            leases.reap(session)

    assert [row.event_type for row in desk.all(WebhookDelivery)] == event_types


def test_a_waiting_job_that_is_cancelled_twice_is_told_of_once(desk: Desk):
    desk.endpoint("https://a.example/")
    job = desk.running_job()
    with transaction(desk.sessions) as session:
        leases.release(session, job.lease_token, "drained")
    for _ in range(2):
        with transaction(desk.sessions) as session:
            service.cancel(session, desk.caller, job.id)

    assert [row.event_type for row in desk.all(WebhookDelivery)] == ["fine_tuning.job.cancelled"]


def test_without_an_endpoint_without_a_commit_or_for_another_kind_of_job_nothing_is_written(desk: Desk):
    desk.end_job()
    endpoint = desk.endpoint("https://a.example/", "fine_tuning.job.failed")
    desk.end_job("succeeded")
    job = desk.running_job()
    with desk.sessions() as session:
        leases.finish(session, job.lease_token, "failed", Event("The end"), error={"code": "x", "message": "y"})
        session.rollback()
    with transaction(desk.sessions) as session:
        endpoints.update(session, desk.caller, endpoint.id, Changes(enabled=False))
    desk.end_job("failed")

    assert desk.all(WebhookDelivery) == []


def test_a_job_that_ends_while_its_endpoint_is_deleted_ends_all_the_same(desk: Desk):
    endpoint, job = desk.endpoint("https://a.example/"), desk.running_job()
    with desk.sessions() as deleting:
        endpoints.delete(deleting, desk.caller, endpoint.id)
        ended: list[Job | None] = []

        def end() -> None:
            with transaction(desk.sessions) as session:
                ended.append(leases.finish(session, job.lease_token, "succeeded", Event("The end")))

        thread = threading.Thread(target=end)
        thread.start()
        desk.wait(lambda: _somebody_waits_for_a_lock(desk.sessions))
        deleting.commit()
        thread.join()

    assert [job.status for job in ended if job] == ["succeeded"]
    assert desk.all(WebhookDelivery) == []


def _somebody_waits_for_a_lock(sessions: SessionFactory) -> bool:
    with sessions() as session:
        waiting = session.connection().exec_driver_sql(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(waiting.scalar())


def test_ended_deliveries_are_forgotten_after_some_days_and_pending_ones_never(desk: Desk, receiver, sender, context):
    desk.endpoint(receiver.url)
    for _ in range(3):
        desk.end_job()
    sender.wake()
    desk.wait(lambda: all(row.status == "succeeded" for row in desk.all(WebhookDelivery)))
    old, kept, pending = desk.all(WebhookDelivery)
    days = context.settings.webhook_log_days
    with transaction(desk.sessions) as session:
        for row, age in ((old, timedelta(days=days, minutes=1)), (kept, timedelta(days=days) - timedelta(minutes=1))):
            session.execute(
                update(WebhookDelivery).where(WebhookDelivery.id == row.id).values(finished_at=func.now() - age)
            )
        session.execute(
            update(WebhookDelivery)
            .where(WebhookDelivery.id == pending.id)
            .values(
                status="pending",
                finished_at=None,
                created_at=func.now() - timedelta(days=99),
                next_attempt_at=func.now() + timedelta(hours=1),
            )
        )
    Cleaning(context, lambda: True).clean()

    assert [row.id for row in desk.all(WebhookDelivery)] == [kept.id, pending.id]
    assert {attempt.delivery_id for attempt in desk.attempts()} == {kept.id, pending.id}


def test_no_secret_reaches_a_log_or_the_delivery_log(desk: Desk, receiver: Receiver, sender, caplog):
    caplog.set_level("DEBUG")
    receiver.answer(500)
    endpoint = desk.endpoint(receiver.url)
    desk.end_job()
    with transaction(desk.sessions) as session:
        claimed = deliveries.claim(session, limit=1, per_endpoint=1, busy=(), lease=LEASE)
    desk.make_due(sender)
    desk.wait_for_attempt(2)
    shown = caplog.text + repr(claimed) + "".join(f"{attempt.error}{attempt.response}" for attempt in desk.attempts())

    assert endpoint.secret not in shown
    assert endpoint.secret.removeprefix("whsec_") not in shown
