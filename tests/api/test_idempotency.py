"""One lost response never makes two jobs: the Idempotency-Key header, and the SDK's retries, which bring none."""

import concurrent.futures
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import httpx2
import pytest
from openai import OpenAI
from sqlalchemy import func, update

from app.db import transaction
from app.jobs import idempotency
from app.registry.base_models import STARTER
from app.tables import File, IdempotentRequest, Job
from tests.api.conftest import headers_of
from tests.api.scenery import ROWS, Scenery
from tests.api.test_access import error_of

JOBS = "/v1/fine_tuning/jobs"
KEY = "idempotency-key"
RETRY = "x-stainless-retry-count"


def body_of(scenery: Scenery) -> dict[str, Any]:
    return {"model": STARTER, "training_file": scenery.upload()["id"]}


def post(scenery: Scenery, body: dict[str, Any], **headers: str) -> httpx.Response:
    return scenery.client.post(
        JOBS, json=body, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def upload(scenery: Scenery, content: bytes = ROWS, name: str = "a.jsonl", **headers: str) -> httpx.Response:
    return scenery.client.post(
        "/v1/files", data={"purpose": "fine-tune"}, files={"file": (name, content)}, headers=headers
    )


def jobs(scenery: Scenery) -> int:
    with transaction(scenery.sessions) as session:
        return session.query(Job).filter(Job.kind == "fine_tuning").count()


def age(scenery: Scenery, by: timedelta) -> None:
    with transaction(scenery.sessions) as session:
        session.execute(update(IdempotentRequest).values(created_at=func.now() - by))


def test_the_same_key_and_body_get_the_same_answer(scenery: Scenery) -> None:
    body = body_of(scenery)

    first, second = (post(scenery, body, idempotency_key="k1") for _ in range(2))
    reordered = post(scenery, dict(reversed(body.items())), idempotency_key="k1")

    assert first.status_code == second.status_code == 200
    assert first.json() == second.json() == reordered.json()
    assert jobs(scenery) == 1


def test_the_same_key_with_another_body_is_a_conflict(scenery: Scenery) -> None:
    body = body_of(scenery)
    post(scenery, body, idempotency_key="k1")

    response = post(scenery, body | {"seed": 1}, idempotency_key="k1")

    assert response.status_code == 409
    assert response.headers["x-should-retry"] == "false"
    assert error_of(response)["code"] == "idempotency_key_reuse"
    assert jobs(scenery) == 1


def test_a_key_belongs_to_its_project_and_path(scenery: Scenery, other_key: str) -> None:
    body = body_of(scenery)
    post(scenery, body, idempotency_key="k1")

    theirs = scenery.client.post(
        "/v1/files",
        data={"purpose": "fine-tune"},
        files={"file": ("a", ROWS)},
        headers={KEY: "k1"} | headers_of(other_key),
    )
    other_path = upload(scenery, **{KEY: "k1"})

    assert theirs.status_code == other_path.status_code == 200
    assert theirs.json()["id"] != other_path.json()["id"]


def test_a_refused_request_leaves_its_key_free(scenery: Scenery) -> None:
    body = body_of(scenery)
    refused = post(scenery, body | {"model": "nothing"}, idempotency_key="k1")

    assert refused.status_code == 400
    assert post(scenery, body, idempotency_key="k1").status_code == 200


def test_a_key_is_free_again_after_a_day(scenery: Scenery) -> None:
    body = body_of(scenery)
    first = post(scenery, body, idempotency_key="k1")
    age(scenery, timedelta(hours=25))

    second = post(scenery, body, idempotency_key="k1")

    assert first.json()["id"] != second.json()["id"]


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_of_odd_length_is_refused(scenery: Scenery, key: str) -> None:
    response = post(scenery, body_of(scenery), idempotency_key=key)

    assert (response.status_code, error_of(response)["param"]) == (400, "Idempotency-Key")


def test_two_equal_first_tries_are_two_jobs(scenery: Scenery) -> None:
    body = body_of(scenery)

    first, second = (post(scenery, body, **{RETRY: "0"}) for _ in range(2))

    assert first.json()["id"] != second.json()["id"]
    assert jobs(scenery) == 2


def test_a_retry_gets_the_answer_of_the_last_first_try(scenery: Scenery) -> None:
    body = body_of(scenery)
    post(scenery, body, **{RETRY: "0"})
    second = post(scenery, body, **{RETRY: "0"})

    retried = [post(scenery, body, **{RETRY: count}) for count in ("1", "2")]

    assert [response.json() for response in retried] == [second.json()] * 2
    assert jobs(scenery) == 2


def test_a_retry_whose_first_try_never_arrived_acts_and_is_itself_repeatable(scenery: Scenery) -> None:
    body = body_of(scenery)

    first, second = post(scenery, body, **{RETRY: "1"}), post(scenery, body, **{RETRY: "2"})

    assert first.json() == second.json()
    assert jobs(scenery) == 1


def test_a_retry_after_the_window_is_a_new_request(scenery: Scenery) -> None:
    body = body_of(scenery)
    first = post(scenery, body, **{RETRY: "0"})
    age(scenery, timedelta(minutes=11))

    assert post(scenery, body, **{RETRY: "1"}).json()["id"] != first.json()["id"]


def test_a_first_try_that_its_retry_overtook_gets_the_retrys_answer(scenery: Scenery, monkeypatch) -> None:
    body = body_of(scenery)
    retried = post(scenery, body, **{RETRY: "1"})
    # The first try arrived ten seconds ago and waited for a thread since.
    monkeypatch.setattr("app.api.idempotency.time", SimpleNamespace(monotonic=lambda: time.monotonic() + 10))

    overtaken = post(scenery, body, **{RETRY: "0"})

    assert overtaken.json() == retried.json()
    assert jobs(scenery) == 1


def test_a_new_request_after_a_retry_is_a_new_job(scenery: Scenery) -> None:
    body = body_of(scenery)
    retried = post(scenery, body, **{RETRY: "1"})

    assert post(scenery, body, **{RETRY: "0"}).json()["id"] != retried.json()["id"]


def test_requests_without_either_header_are_all_new(scenery: Scenery) -> None:
    body = body_of(scenery)

    assert post(scenery, body).json()["id"] != post(scenery, body).json()["id"]
    assert scenery.count(IdempotentRequest) == 0


@pytest.mark.parametrize("headers", [{KEY: "k1"}, {RETRY: "1"}], ids=["key", "retry"])
def test_twins_at_the_same_moment_make_one_job(over_http: Scenery, headers: dict[str, str]) -> None:
    body = body_of(over_http)
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: post(over_http, body, **headers), range(8)))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert jobs(over_http) == 1


def test_first_tries_at_the_same_moment_make_as_many_jobs(over_http: Scenery) -> None:
    body = body_of(over_http)
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: post(over_http, body, **{RETRY: "0"}), range(4)))

    assert len({answer.json()["id"] for answer in answers}) == 4


def test_an_upload_sent_again_is_one_file(scenery: Scenery) -> None:
    first = upload(scenery, **{RETRY: "0"})
    second = upload(scenery, **{RETRY: "1"})
    renamed = upload(scenery, name="b.jsonl", **{RETRY: "1"})
    changed = upload(scenery, content=ROWS * 2, **{RETRY: "1"})

    assert first.json() == second.json()
    assert len({response.json()["id"] for response in (first, renamed, changed)}) == 3
    assert scenery.count(File) == 3


def test_old_records_are_forgotten(scenery: Scenery) -> None:
    post(scenery, body_of(scenery), idempotency_key="old")
    age(scenery, timedelta(hours=25))
    post(scenery, body_of(scenery), idempotency_key="new")

    with transaction(scenery.sessions) as session:
        assert idempotency.forget(session) == 1
        assert idempotency.forget(session) == 0


def test_an_answer_that_was_lost_is_found_again_by_the_unmodified_sdk(over_http: Scenery, server, api_key) -> None:
    """The server answers; the network loses it; the SDK silently sends the request again."""
    lost: list[str] = []

    class Lossy(httpx2.HTTPTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            response = super().handle_request(request)
            if request.method == "POST" and len(lost) < 2:
                lost.append(request.headers[RETRY])
                response.close()
                raise httpx2.ReadError("connection reset")
            return response

    body = body_of(over_http)
    with OpenAI(base_url=f"{server}/v1", api_key=api_key, http_client=httpx2.Client(transport=Lossy())) as client:
        client._sleep_for_retry = lambda **_: None
        job = client.fine_tuning.jobs.create(**body)

    assert lost == ["0", "1"]
    assert [listed["id"] for listed in over_http.client.get(JOBS).json()["data"]] == [job.id]
