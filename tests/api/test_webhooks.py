"""Webhook endpoints over the API: managed, tested, with their log. What is sent: tests/webhooks."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from openai import OpenAI

from app.db import SessionFactory, transaction
from app.main import create_app
from app.settings import Settings
from app.tables import IdempotentRequest, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from tests.api.conftest import headers_of, serve
from tests.api.scenery import Scenery
from tests.api.test_access import error_of
from tests.api.test_wakes import Recorder

ENDPOINTS = "/v1/webhook_endpoints"
PUBLIC = "https://93.184.215.14/hooks?team=a"
SUCCEEDED, FAILED = "fine_tuning.job.succeeded", "fine_tuning.job.failed"


def new(**fields: Any) -> dict[str, Any]:
    return {"name": "Deployment", "url": PUBLIC, "event_types": [SUCCEEDED]} | fields


def create(client: TestClient, **fields: Any) -> dict[str, Any]:
    response = client.post(ENDPOINTS, json=new(**fields))
    assert response.status_code == 200, response.text
    return response.json()


def test_the_sdk_manages_endpoints(sdk: OpenAI) -> None:
    made = sdk.webhooks.create(name="Deployment", url=PUBLIC, event_types=[SUCCEEDED, FAILED])
    assert (made.object, made.name, made.url, made.event_types) == (
        "webhook_endpoint",
        "Deployment",
        PUBLIC,
        [SUCCEEDED, FAILED],
    )
    assert made.signing_secret.startswith("whsec_")
    assert made.signing_secret_hint is not None
    assert made.signing_secret_hint.endswith(made.signing_secret[-4:])

    found = sdk.webhooks.retrieve(made.id)
    assert found.model_dump() == {name: value for name, value in made.model_dump().items() if name != "signing_secret"}
    other = sdk.webhooks.create(name="Other", url=PUBLIC, event_types=[FAILED])
    assert [endpoint.id for endpoint in sdk.webhooks.list(limit=1)] == [other.id, made.id]
    assert sdk.webhooks.event_types.list().data == [
        f"{kind}.{end}" for kind in ("fine_tuning.job", "evaluation") for end in ("succeeded", "failed", "cancelled")
    ]

    changed = sdk.webhooks.update(made.id, name="New", event_types=[FAILED])
    assert (changed.name, changed.url, changed.event_types) == ("New", PUBLIC, [FAILED])
    rotated = sdk.webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
    assert rotated.signing_secret != made.signing_secret

    deleted = sdk.webhooks.delete(made.id)
    assert (deleted.deleted, deleted.object) == (True, "webhook_endpoint.deleted")
    with pytest.raises(openai.NotFoundError):
        sdk.webhooks.retrieve(made.id)


def test_a_secret_is_shown_when_it_is_made_and_never_again(client: TestClient, caplog) -> None:
    caplog.set_level("DEBUG")
    made = create(client)
    rotated = client.post(f"{ENDPOINTS}/{made['id']}/rotate_secret").json()
    shown = [
        client.get(ENDPOINTS).text,
        client.get(f"{ENDPOINTS}/{made['id']}").text,
        client.post(f"{ENDPOINTS}/{made['id']}", json={"name": "New"}).text,
        client.get(f"{ENDPOINTS}/{made['id']}/deliveries").text,
        caplog.text,
    ]

    for secret in (made["signing_secret"], rotated["signing_secret"]):
        assert not any(secret in text or secret.removeprefix("whsec_") in text for text in shown)


def test_a_secret_does_not_reach_the_log_with_a_failed_statement(client: TestClient, sessions: SessionFactory) -> None:
    secret = create(client)["signing_secret"]
    with pytest.raises(Exception, match="parameters hidden") as failure, transaction(sessions) as session:
        session.add(WebhookEndpoint(id="x", project_id="nobody", name="", url="", event_types=[], secret=secret))

    assert secret not in str(failure.value)


def test_a_create_whose_answer_was_lost_makes_one_endpoint(client: TestClient, sessions: SessionFactory) -> None:
    answers = [
        client.post(ENDPOINTS, json=new(), headers={"x-stainless-retry-count": count}).json() for count in ("0", "1")
    ]

    assert answers[0] == answers[1]
    with transaction(sessions) as session:
        assert session.query(WebhookEndpoint).count() == session.query(IdempotentRequest).count() == 1


def test_a_rotation_whose_answer_was_lost_rotates_once(client: TestClient) -> None:
    path = f"{ENDPOINTS}/{create(client)['id']}/rotate_secret"
    answers = [client.post(path, json={}, headers={"x-stainless-retry-count": count}).json() for count in ("0", "1")]

    assert answers[0]["signing_secret"] == answers[1]["signing_secret"]


def test_a_project_has_so_many_endpoints_and_no_more(
    client: TestClient, api_settings: Settings, other_key: str
) -> None:
    for _ in range(api_settings.max_webhook_endpoints):
        last = create(client)

    response = client.post(ENDPOINTS, json=new())
    assert (response.status_code, error_of(response)["code"]) == (400, "too_many_webhook_endpoints")
    assert "TAILOR_MAX_WEBHOOK_ENDPOINTS" in error_of(response)["message"]
    assert client.post(ENDPOINTS, json=new(), headers=headers_of(other_key)).status_code == 200
    client.delete(f"{ENDPOINTS}/{last['id']}")
    create(client)


def test_endpoints_and_their_log_are_invisible_to_other_projects(
    scenery: Scenery, other_key: str, sessions: SessionFactory
) -> None:
    endpoint = create(scenery.client)
    scenery.succeeded_job()
    delivery = scenery.client.get(f"{ENDPOINTS}/{endpoint['id']}/deliveries").json()["data"][0]
    path = f"{ENDPOINTS}/{endpoint['id']}"
    attempts = [
        ("get", path, None),
        ("post", path, {"name": "Mine"}),
        ("delete", path, None),
        ("post", f"{path}/rotate_secret", {}),
        ("post", f"{path}/test", {"event_type": SUCCEEDED}),
        ("get", f"{path}/deliveries", None),
        ("get", f"{path}/deliveries/{delivery['id']}", None),
        ("post", f"{path}/deliveries/{delivery['id']}/replay", None),
        ("get", f"{ENDPOINTS}?after={endpoint['id']}", None),
    ]

    for method, address, body in attempts:
        response = scenery.client.request(method, address, json=body, headers=headers_of(other_key))
        assert response.status_code == 404, (method, address)
    assert scenery.client.get(ENDPOINTS, headers=headers_of(other_key)).json()["data"] == []
    assert scenery.client.get(path).json()["name"] == "Deployment"


def test_an_event_goes_to_the_endpoints_of_its_project_that_subscribed(
    scenery: Scenery, other_key: str, sessions: SessionFactory
) -> None:
    hears = create(scenery.client, event_types=[FAILED, SUCCEEDED])
    other_type = create(scenery.client, event_types=[FAILED])
    disabled = create(scenery.client)
    scenery.client.post(f"{ENDPOINTS}/{disabled['id']}", json={"status": "disabled"})
    scenery.client.post(ENDPOINTS, json=new(), headers=headers_of(other_key))

    job = scenery.succeeded_job()

    with transaction(sessions) as session:
        assert [row.endpoint_id for row in session.query(WebhookDelivery)] == [hears["id"]]
    assert scenery.client.get(f"{ENDPOINTS}/{other_type['id']}/deliveries").json()["data"] == []
    log = scenery.client.get(f"{ENDPOINTS}/{hears['id']}/deliveries").json()
    assert log["has_more"] is False
    [delivery] = log["data"]
    assert delivery["event"] == {
        "id": delivery["event"]["id"],
        "object": "event",
        "type": SUCCEEDED,
        "created_at": scenery.client.get(f"/v1/fine_tuning/jobs/{job.id}").json()["finished_at"],
        "data": {"id": job.id},
    }
    assert (delivery["status"], delivery["test"], delivery["attempts"]) == ("pending", False, [])
    assert scenery.client.get(f"{ENDPOINTS}/{hears['id']}/deliveries/{delivery['id']}").json() == delivery


def test_a_cancelled_job_wakes_the_control_worker_after_its_delivery_is_committed(
    scenery: Scenery, app: FastAPI
) -> None:
    endpoint = create(scenery.client, event_types=["fine_tuning.job.cancelled"])
    job = scenery.create_job()
    recorder, before = Recorder(scenery), app.state.serving
    app.state.serving = dataclasses.replace(before, waker=recorder)
    try:
        scenery.client.post(f"/v1/fine_tuning/jobs/{job['id']}/cancel")
    finally:
        app.state.serving = before

    assert [queue for queue, _ in recorder.calls] == ["control"]
    log = scenery.client.get(f"{ENDPOINTS}/{endpoint['id']}/deliveries").json()["data"]
    assert [delivery["event"]["data"]["id"] for delivery in log] == [job["id"]]


def test_the_log_comes_in_pages_and_by_status(scenery: Scenery, sessions: SessionFactory) -> None:
    endpoint = create(scenery.client, event_types=["fine_tuning.job.cancelled"])
    for _ in range(3):
        scenery.client.post(f"/v1/fine_tuning/jobs/{scenery.create_job()['id']}/cancel")
    path = f"{ENDPOINTS}/{endpoint['id']}/deliveries"
    every = [delivery["id"] for delivery in scenery.client.get(path).json()["data"]]
    first = scenery.client.get(f"{path}?limit=2").json()
    second = scenery.client.get(f"{path}?limit=2&after={every[1]}").json()

    assert [delivery["id"] for delivery in first["data"] + second["data"]] == every
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert len(scenery.client.get(f"{path}?status=pending").json()["data"]) == 3
    assert scenery.client.get(f"{path}?status=failed").json()["data"] == []
    assert error_of(scenery.client.get(f"{path}?status=lost"))["allowed"] == ["pending", "succeeded", "failed"]
    assert error_of(scenery.client.get(f"{path}?after=delivery-0"))["param"] == "after"


def test_disabling_ends_what_is_pending_and_a_replay_asks_to_enable_first(scenery: Scenery) -> None:
    endpoint = create(scenery.client)
    scenery.succeeded_job()
    path = f"{ENDPOINTS}/{endpoint['id']}"

    disabled = scenery.client.post(path, json={"status": "disabled"}).json()
    [delivery] = scenery.client.get(f"{path}/deliveries").json()["data"]
    assert (disabled["status"], disabled["disabled_reason"]) == ("disabled", "Disabled over the API.")
    assert (delivery["status"], delivery["next_attempt_at"]) == ("failed", None)
    refused = scenery.client.post(f"{path}/deliveries/{delivery['id']}/replay")
    assert (refused.status_code, error_of(refused)["code"]) == (409, "webhook_endpoint_disabled")

    enabled = scenery.client.post(path, json={"status": "enabled"}).json()
    assert (enabled["status"], enabled["disabled_reason"], enabled["disabled_at"]) == ("enabled", None, None)
    replayed = scenery.client.post(f"{path}/deliveries/{delivery['id']}/replay").json()
    assert replayed["status"] == "pending"
    assert replayed["event"] == delivery["event"]


def test_deleting_an_endpoint_takes_its_pending_deliveries_along(scenery: Scenery, sessions: SessionFactory) -> None:
    endpoint = create(scenery.client)
    scenery.succeeded_job()

    scenery.client.delete(f"{ENDPOINTS}/{endpoint['id']}")

    with transaction(sessions) as session:
        assert session.query(WebhookDelivery).count() == session.query(WebhookAttempt).count() == 0


def test_an_update_that_changes_nothing_changes_no_time(client: TestClient, sessions: SessionFactory) -> None:
    endpoint = create(client)
    with transaction(sessions) as session:
        before = session.query(WebhookEndpoint.updated_at).scalar()

    for same in ({}, new(), {"status": "enabled"}, {"name": None}):
        assert client.post(f"{ENDPOINTS}/{endpoint['id']}", json=same).status_code == 200
    with transaction(sessions) as session:
        assert session.query(WebhookEndpoint.updated_at).scalar() == before


@pytest.fixture
def open_server(api_settings: Settings, sessions: SessionFactory) -> Iterator[str]:
    """A server that allows private addresses and soon gives up waiting for a worker."""
    open_settings = api_settings.model_copy(update={"webhook_private_addresses": "on", "webhook_timeout_s": 0.1})
    yield from serve(create_app(open_settings))


def test_private_addresses_and_http_are_taken_where_the_setting_allows_them(open_server: str, api_key: str) -> None:
    with OpenAI(base_url=f"{open_server}/v1", api_key=api_key) as sdk:
        for url in ("http://127.0.0.1:9/hooks", "https://localhost/", "http://[::1]:9/"):
            assert sdk.webhooks.create(name="Inside", url=url, event_types=[SUCCEEDED]).url == url
        with pytest.raises(openai.BadRequestError, match="begins with ftp:"):
            sdk.webhooks.create(name="Inside", url="ftp://localhost/", event_types=[SUCCEEDED])


def test_a_test_without_a_control_worker_says_so_and_is_withdrawn(
    open_server: str, api_key: str, monkeypatch, sessions: SessionFactory
) -> None:
    monkeypatch.setattr("app.api.webhooks.WORKER_SLACK_S", 0.1)
    with OpenAI(base_url=f"{open_server}/v1", api_key=api_key, max_retries=0) as sdk:
        endpoint = sdk.webhooks.create(name="Inside", url="http://127.0.0.1:9/", event_types=[SUCCEEDED])
        with pytest.raises(openai.InternalServerError, match="tailor worker --control") as failure:
            sdk.webhooks.test(endpoint.id, event_type=SUCCEEDED)

    assert failure.value.code == "no_control_worker"
    with transaction(sessions) as session:
        assert session.query(WebhookDelivery.status).scalar() == "failed"
