"""What is tried again, when, and what is not."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from app.db import transaction
from app.tables import WebhookDelivery, WebhookEndpoint
from app.webhooks import deliveries, endpoints
from app.webhooks.deliveries import RETRY_AFTER, Outcome
from app.webhooks.endpoints import Changes
from tests.webhooks.conftest import Desk
from tests.webhooks.receiver import Receiver, receiving
from worker.webhooks import AT_ONCE_PER_ENDPOINT, LEASE, WebhookSender


def test_a_failing_endpoint_is_tried_again_after_growing_times_and_given_up_in_the_end(desk, receiver, sender):
    receiver.answer(500, b"not \0 now " * 1000)
    desk.endpoint(receiver.url)
    desk.end_job()
    for number, delay in enumerate(RETRY_AFTER, start=1):
        desk.make_due(sender)
        attempt = desk.wait_for_attempt(number)
        desk.wait(lambda: desk.delivery().lease_token is None)
        with transaction(desk.sessions) as session:
            waits = session.scalar(select(WebhookDelivery.next_attempt_at - func.now()))
            elapsed = session.scalar(select(func.now() - attempt.started_at))
        assert delay * 0.8 - elapsed <= waits <= delay * 1.2
        assert (attempt.status_code, attempt.error) == (500, "HTTP 500 Internal Server Error")
        assert attempt.response == ("not \ufffd now " * 1000)[:1000]
    desk.make_due(sender)
    delivery = desk.wait_for("failed")

    assert len(desk.attempts()) == len(receiver.received) == len(RETRY_AFTER) + 1
    assert {request.headers["webhook-id"] for request in receiver.received} == {delivery.event_id}
    assert len({request.body for request in receiver.received}) == 1
    assert timedelta(days=1.5) < sum(RETRY_AFTER, timedelta()) < timedelta(days=3)


def test_delays_differ_so_that_endpoints_do_not_come_back_together(desk: Desk):
    for _ in range(20):
        desk.endpoint("https://a.example/")
    desk.end_job()
    with transaction(desk.sessions) as session:
        claimed = deliveries.claim(session, limit=20, per_endpoint=1, busy=(), lease=LEASE)
        for one in claimed:
            deliveries.settle(session, one, Outcome(1, 500, "HTTP 500", None))
        times = session.scalars(select(WebhookDelivery.next_attempt_at)).all()

    assert len(set(times)) == 20


def test_a_success_after_failures_ends_the_delivery_and_the_endpoints_bad_record(desk, receiver, sender):
    receiver.answers = [(503, {}, b""), (302, {"location": "/"}, b""), (204, {}, b"")]
    desk.endpoint(receiver.url)
    desk.end_job()
    sender.wake()
    desk.wait_for_attempt(1)
    desk.wait(lambda: desk.the_endpoint().failures == 1)
    desk.make_due(sender)
    desk.wait_for_attempt(2)
    assert desk.the_endpoint().failing_since is not None
    desk.make_due(sender)
    desk.wait_for("succeeded")

    assert (desk.the_endpoint().failures, desk.the_endpoint().failing_since) == (0, None)
    assert [attempt.status_code for attempt in desk.attempts()] == [503, 302, 204]


def test_a_due_retry_is_sent_without_any_wake_up(desk: Desk, receiver: Receiver, sender):
    receiver.answers = [(500, {}, b""), (200, {}, b"")]
    desk.endpoint(receiver.url)
    desk.end_job()
    sender.wake()
    desk.wait_for_attempt(1)

    assert desk.wait_for("succeeded").attempt == 2  # the first retry is due after 5 s, long before the next tick


def test_a_redirect_is_not_followed(desk: Desk, receiver: Receiver, sender):
    with receiving() as elsewhere:
        receiver.answer(307, location=f"{elsewhere.url}/secret")
        desk.endpoint(receiver.url)
        desk.end_job()
        sender.wake()
        attempt = desk.wait_for_attempt(1)

        assert attempt.status_code == 307
        assert "redirects are not followed" in attempt.error
        assert elsewhere.received == []
        assert desk.delivery().status == "pending"


def test_an_endpoint_that_is_gone_is_disabled_and_its_other_deliveries_end(desk, receiver, context):
    receiver.answer(410)
    endpoint = desk.endpoint(receiver.url)
    for _ in range(AT_ONCE_PER_ENDPOINT + 2):
        desk.end_job()
    with WebhookSender(context) as sender:
        desk.wait(lambda: desk.the_endpoint().status == "disabled")
        desk.wait(lambda: all(attempt.duration_ms is not None for attempt in desk.attempts()))
        sender.wake()

    assert desk.the_endpoint().disabled_reason == "The endpoint answered 410 Gone."
    assert {row.status for row in desk.all(WebhookDelivery)} == {"failed"}
    assert len(receiver.received) <= AT_ONCE_PER_ENDPOINT
    desk.end_job()
    assert len(desk.all(WebhookDelivery)) == AT_ONCE_PER_ENDPOINT + 2
    with transaction(desk.sessions) as session:
        enabled = endpoints.update(session, desk.caller, endpoint.id, Changes(enabled=True))
        assert (enabled.disabled_reason, enabled.failures) == (None, 0)


@pytest.mark.parametrize(("days", "failures", "disabled"), [(6, 19, True), (6, 5, False), (4, 100, False)])
def test_an_endpoint_that_fails_for_days_is_disabled_with_the_reason(desk, receiver, sender, days, failures, disabled):
    receiver.answer(500)
    desk.endpoint(receiver.url)
    with transaction(desk.sessions) as session:
        since = func.now() - timedelta(days=days)
        session.execute(update(WebhookEndpoint).values(failures=failures, failing_since=since))
    desk.end_job()
    sender.wake()
    desk.wait_for_attempt(1)
    desk.wait(lambda: desk.delivery().lease_token is None)

    endpoint = desk.the_endpoint()
    assert (endpoint.status == "disabled") is disabled
    if disabled:
        assert "All 20 attempts since" in endpoint.disabled_reason
        assert "HTTP 500" in endpoint.disabled_reason
        assert desk.delivery().status == "failed"


def test_a_replay_sends_the_same_event_with_new_retries(desk: Desk, receiver: Receiver, sender):
    receiver.answer(500)
    endpoint = desk.endpoint(receiver.url)
    desk.end_job()
    sender.wake()
    desk.wait_for_attempt(1)
    with transaction(desk.sessions) as session:
        session.execute(update(WebhookDelivery).values(retry=len(RETRY_AFTER)))
    desk.make_due(sender)
    desk.wait_for("failed")
    receiver.answer(200)
    with transaction(desk.sessions) as session:
        replayed = deliveries.replay(session, session.get(WebhookEndpoint, endpoint.id), desk.delivery().id)
        assert (replayed.status, replayed.retry, replayed.attempt) == ("pending", 0, 2)
    sender.wake()
    desk.wait_for("succeeded")

    assert [attempt.status_code for attempt in desk.attempts()] == [500, 500, 200]
    assert len({(request.body, request.headers["webhook-id"]) for request in receiver.received}) == 1
