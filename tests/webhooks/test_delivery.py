"""What arrives: signed, once or again, until it is taken or given up."""

import json
from contextlib import ExitStack
from datetime import timedelta

import pytest
from openai import InvalidWebhookSignatureError, OpenAI
from sqlalchemy import func, update
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from app.db import transaction
from app.main import create_app
from app.tables import WebhookDelivery, WebhookEndpoint
from app.webhooks import deliveries, endpoints, outbox
from app.webhooks.endpoints import Changes
from examples.webhook_receiver import listen
from tests.api.conftest import serve
from tests.webhooks.conftest import SDK, SUCCEEDED, Desk
from tests.webhooks.receiver import Receiver


def test_the_sdk_and_the_standards_own_library_accept_what_arrives(desk: Desk, receiver: Receiver, sender):
    endpoint = desk.endpoint(f"{receiver.url}/hooks?team=a")
    job = desk.end_job()
    sender.wake()
    delivery = desk.wait_for("succeeded")

    [request] = receiver.received
    event = SDK.webhooks.unwrap(request.body, request.headers, secret=endpoint.secret)
    assert (event.type, event.data.id, event.id) == (SUCCEEDED, job.id, delivery.event_id)
    assert Webhook(endpoint.secret).verify(request.body, request.headers) == json.loads(delivery.body)
    assert request.path == "/hooks?team=a"
    assert request.headers["webhook-id"] == delivery.event_id
    assert request.headers["content-type"] == "application/json"
    assert request.headers["host"] == receiver.url.removeprefix("http://")
    [attempt] = desk.attempts()
    assert (attempt.status_code, attempt.error, attempt.response) == (200, None, "thanks")
    with pytest.raises(InvalidWebhookSignatureError):
        SDK.webhooks.unwrap(request.body.replace(job.id, "ftjob-1"), request.headers, secret=endpoint.secret)


def test_the_examples_receiver_takes_an_event_once_and_refuses_a_forged_one(desk: Desk, sender, capsys):
    with OpenAI(api_key="unused") as client:
        server = listen(client, 0)
        endpoint = desk.endpoint(f"http://127.0.0.1:{server.server_port}/")
        client.webhook_secret = endpoint.secret
        job = desk.end_job()
        sender.wake()
        delivery = desk.wait_for("succeeded")
        with transaction(desk.sessions) as session:
            deliveries.replay(session, session.get(WebhookEndpoint, endpoint.id), delivery.id)
        sender.wake()
        desk.wait_for_attempt(2)
        client.webhook_secret = "whsec_c29tZWJvZHkgZWxzZQ=="
        desk.end_job()
        sender.wake()
        desk.wait(lambda: [attempt.status_code for attempt in desk.attempts()].count(400) == 1)
        server.shutdown()
        server.server_close()

    assert capsys.readouterr().out == f"{SUCCEEDED} {job.id}\n"
    assert sorted(attempt.status_code for attempt in desk.attempts()) == [204, 204, 400]


@pytest.mark.parametrize("keep_old", [True, False])
def test_a_rotated_secret_signs_beside_the_new_one_if_asked_and_until_its_time(desk, receiver, sender, keep_old):
    old = desk.endpoint(receiver.url).secret
    with transaction(desk.sessions) as session:
        endpoint = endpoints.rotate_secret(session, desk.caller, desk.the_endpoint().id, keep_old=keep_old)
    desk.end_job()
    sender.wake()
    desk.wait_for("succeeded")
    [request] = receiver.received

    assert len(request.headers["webhook-signature"].split()) == (2 if keep_old else 1)
    for secret, good in ((endpoint.secret, True), (old, keep_old)):
        assert _verifies(secret, request) is good
    with transaction(desk.sessions) as session:
        session.execute(
            update(WebhookEndpoint)
            .where(WebhookEndpoint.previous_secret.is_not(None))
            .values(previous_secret_expires_at=func.now() - timedelta(seconds=1))
        )
        deliveries.replay(session, session.get(WebhookEndpoint, endpoint.id), desk.delivery().id)
    sender.wake()
    desk.wait(lambda: len(receiver.received) == 2)
    assert _verifies(endpoint.secret, receiver.received[1])
    assert not _verifies(old, receiver.received[1])
    with transaction(desk.sessions) as session:
        deliveries.forget(session, kept_for=timedelta(days=1))
    assert desk.the_endpoint().previous_secret is None


def _verifies(secret: str, request) -> bool:
    try:
        Webhook(secret).verify(request.body, request.headers)
        SDK.webhooks.unwrap(request.body, request.headers, secret=secret)
    except (WebhookVerificationError, InvalidWebhookSignatureError):
        return False
    return True


def test_a_test_goes_the_way_of_real_events_and_is_sent_once(desk: Desk, receiver: Receiver, sender, context, api_key):
    endpoint = desk.endpoint(receiver.url)
    with ExitStack() as stack:
        app = create_app(context.settings)
        server = serve(app)
        url = next(server)
        stack.callback(lambda: next(server, None))
        sdk = stack.enter_context(OpenAI(base_url=f"{url}/v1", api_key=api_key))
        app.state.serving.waker.wake = lambda _: sender.wake()
        result = sdk.webhooks.test(endpoint.id, event_type=SUCCEEDED)
        assert (result.success, result.status_code, result.event_type) == (True, 200, SUCCEEDED)
        receiver.answer(500)
        assert sdk.webhooks.test(endpoint.id, event_type="fine_tuning.job.failed").status_code == 500
        assert sdk.webhooks.test(endpoint.id, event_type="evaluation.succeeded").success  # type: ignore[arg-type]
        with transaction(desk.sessions) as session:
            endpoints.update(session, desk.caller, endpoint.id, Changes(url="http://127.0.0.1:1/", enabled=False))
        with pytest.raises(Exception, match="got no answer") as failure:
            sdk.webhooks.test(endpoint.id, event_type=SUCCEEDED)
        assert failure.value.code == "webhook_test_failed"

    event = SDK.webhooks.unwrap(receiver.received[0].body, receiver.received[0].headers, secret=endpoint.secret)
    assert (event.type, event.data.id) == (SUCCEEDED, outbox.SAMPLE_JOB_ID)
    ours = receiver.received[2]  # a type that the SDK does not know
    unknown = SDK.webhooks.unwrap(ours.body, ours.headers, secret=endpoint.secret)
    assert (unknown.type, unknown.data.id) == ("evaluation.succeeded", outbox.SAMPLE_EVALUATION_ID)
    assert [(row.test, row.status, row.attempt) for row in desk.all(WebhookDelivery)] == [
        (True, "succeeded", 1),
        (True, "failed", 1),
        (True, "failed", 1),
        (True, "failed", 1),
    ]
    assert desk.the_endpoint().failures == 0
