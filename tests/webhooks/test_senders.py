"""Whatever dies or hangs, each delivery is sent, and by one sender at a time."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from app.db import transaction
from app.tables import WebhookDelivery
from app.webhooks import deliveries, endpoints
from app.webhooks.deliveries import Outcome
from tests.webhooks.conftest import Desk, sender_with
from tests.webhooks.receiver import Receiver, raw_server, receiving
from worker.context import WorkerContext
from worker.webhooks import AT_ONCE_PER_ENDPOINT, LEASE, WebhookSender


def test_the_delivery_of_a_killed_sender_is_taken_over(desk, receiver, sender, context, tmp_path):
    receiver.go_on.clear()
    desk.endpoint(receiver.url)
    desk.end_job()
    program = (
        "import threading; from app.settings import Settings; from app.db import make_engine, session_factory\n"
        "from worker.webhooks import WebhookSender; from worker.context import WorkerContext\n"
        "from worker.process import Standby; from pathlib import Path\n"
        "settings = Settings(); sessions = session_factory(make_engine(settings.database_url))\n"
        "standby = Standby(enabled=False)\n"
        "context = WorkerContext(settings, sessions, None, 'killed', threading.Event(), standby, lambda _: None)\n"
        "WebhookSender(context).start(); threading.Event().wait()\n"
    )
    sender.close()
    environment = os.environ | {
        "TAILOR_DATABASE_URL": context.settings.database_url,
        "TAILOR_WEBHOOK_PRIVATE_ADDRESSES": "on",
        "TAILOR_WEBHOOK_TIMEOUT_S": "30",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    doomed = subprocess.Popen([sys.executable, "-c", program], env=environment, cwd=tmp_path)
    try:
        desk.wait(lambda: receiver.received)
    finally:
        doomed.send_signal(signal.SIGKILL)
        doomed.wait()
    receiver.go_on.set()
    with WebhookSender(context) as successor:
        with transaction(desk.sessions) as session:  # under lease: nobody else may send it yet
            assert deliveries.claim(session, limit=9, per_endpoint=9, busy=(), lease=LEASE) == []
            left = session.scalar(select(WebhookDelivery.next_attempt_at - func.now()))
        assert timedelta(0) < left <= LEASE
        desk.make_due(successor)
        desk.wait_for("succeeded")

    first, second = desk.attempts()
    assert (first.duration_ms, first.error) == (None, deliveries.SENDER_LOST)
    assert (second.status_code, second.error) == (200, None)
    assert len(receiver.received) == 2


def test_what_a_sender_reports_after_its_delivery_was_taken_over_is_logged_and_changes_nothing(desk: Desk):
    desk.endpoint("https://a.example/")
    desk.end_job()
    taken = []
    for _ in range(2):
        with transaction(desk.sessions) as session:
            taken += deliveries.claim(session, limit=1, per_endpoint=1, busy=(), lease=LEASE)
        desk.make_due()
    slow, quick = taken
    for claimed, outcome in ((quick, Outcome(1, 200, None, "")), (slow, Outcome(9, None, "No answer.", None))):
        with transaction(desk.sessions) as session:
            deliveries.settle(session, claimed, outcome)

    assert (desk.delivery().status, desk.the_endpoint().failures) == ("succeeded", 0)
    assert [attempt.error for attempt in desk.attempts()] == ["No answer.", None]


def test_two_senders_send_each_delivery_once(desk: Desk, context: WorkerContext):
    with ExitStack() as stack:
        receivers = [stack.enter_context(receiving()) for _ in range(3)]
        for receiver in receivers:
            desk.endpoint(receiver.url)
        for _ in range(20):
            desk.end_job()
        senders = [stack.enter_context(WebhookSender(context)) for _ in range(2)]
        desk.wait(lambda: all(row.status == "succeeded" for row in desk.all(WebhookDelivery)))
        for sender in senders:
            sender.close()

        for receiver in receivers:
            assert len({request.headers["webhook-id"] for request in receiver.received}) == 20
            assert len(receiver.received) == 20
        assert {row.attempt for row in desk.all(WebhookDelivery)} == {1}


def test_an_endpoint_deleted_while_its_answer_is_awaited_disturbs_nobody(desk: Desk, receiver: Receiver, sender):
    receiver.go_on.clear()
    doomed = desk.endpoint(receiver.url)
    desk.end_job()
    sender.wake()
    desk.wait(lambda: receiver.received)
    with transaction(desk.sessions) as session:
        endpoints.delete(session, desk.caller, doomed.id)
    receiver.go_on.set()
    desk.endpoint(receiver.url)
    desk.end_job()
    sender.wake()

    assert desk.wait_for("succeeded").attempt == 1


def test_a_sender_that_is_closed_writes_down_what_was_under_way(desk: Desk, receiver: Receiver, context):
    receiver.go_on.clear()
    desk.endpoint(receiver.url)
    desk.end_job()
    sender = WebhookSender(context)
    sender.start()
    desk.wait(lambda: receiver.received)
    closing = threading.Thread(target=sender.close)
    closing.start()
    desk.wait(sender._closed.is_set)
    receiver.go_on.set()
    closing.join()

    assert desk.delivery().status == "succeeded"


def test_a_draining_worker_takes_no_more_deliveries(desk: Desk, receiver: Receiver, context):
    context.draining.set()
    desk.endpoint(receiver.url)
    desk.end_job()
    with WebhookSender(context):
        pass

    assert (desk.delivery().attempt, receiver.received) == (0, [])


def test_an_endpoint_that_does_not_answer_delays_no_other(desk: Desk, receiver: Receiver, sender):
    receiver.go_on.clear()
    desk.endpoint(receiver.url)
    for _ in range(100):
        desk.end_job()
    sender.wake()
    desk.wait(lambda: len(receiver.received) == AT_ONCE_PER_ENDPOINT)
    with receiving() as quick:
        for endpoint in range(3):
            desk.endpoint(f"{quick.url}/{endpoint}")
        desk.end_job()
        sender.wake()
        desk.wait(lambda: len(quick.received) == 3)

    assert len(receiver.received) == AT_ONCE_PER_ENDPOINT
    receiver.go_on.set()


def test_a_dead_endpoint_takes_one_place_however_many_deliveries_wait_for_it(desk: Desk):
    dead, fine = desk.endpoint("https://a.example/"), desk.endpoint("https://b.example/")
    for _ in range(10):
        desk.end_job()
    with transaction(desk.sessions) as session:
        [one] = deliveries.claim(session, limit=1, per_endpoint=1, busy={fine.id}, lease=LEASE)
        deliveries.settle(session, one, Outcome(10_000, None, "No answer in time.", None))
    with transaction(desk.sessions) as session:
        claimed = deliveries.claim(session, limit=64, per_endpoint=4, busy=(), lease=LEASE)

    assert sorted(one.endpoint_id for one in claimed) == sorted([dead.id] + [fine.id] * 4)


def test_no_answer_in_time_is_a_failure_that_says_so(desk: Desk, receiver: Receiver, context):
    receiver.go_on.clear()
    desk.endpoint(receiver.url)
    desk.end_job()
    with sender_with(context, webhook_timeout_s=0.2):
        attempt = desk.wait_for_attempt(1)

    assert attempt.status_code is None
    assert "TAILOR_WEBHOOK_TIMEOUT_S" in attempt.error


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nbegun",  # and never ended
        b"HTTP/1.1 200 OK\r\n\r\n" + b"endless " * 100_000,
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n" + b"\x1f\x8b\x08\x00 no gzip \xff\x00",
    ],
)
def test_the_status_counts_whatever_the_body_does(desk: Desk, context, answer: bytes):
    with raw_server(answer) as url:
        desk.endpoint(url)
        desk.end_job()
        with sender_with(context, webhook_timeout_s=2):
            desk.wait_for("succeeded")
    [attempt] = desk.attempts()

    assert attempt.status_code == 200
    assert len(attempt.response) <= 1000


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "without sending a response"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "illegal"),
        (b"HTTP/1.1 200 OK\r\n" + b"x-filler: " + b"a" * 1_000_000, "too"),
    ],
)
def test_an_answer_that_is_not_http_is_a_failure_that_says_so(desk: Desk, sender, answer: bytes, said: str):
    with raw_server(answer, close=True) as url:
        desk.endpoint(url)
        desk.end_job()
        sender.wake()
        attempt = desk.wait_for_attempt(1)

    assert attempt.status_code is None
    assert said in attempt.error.lower()
