"""Workers are woken after the commit, when there is something for them, and only then."""

import concurrent.futures
import dataclasses
from collections.abc import Iterator

import pytest
from fastapi import FastAPI

from app.db import transaction
from app.registry.base_models import STARTER
from app.tables import Job
from tests.api.scenery import ROWS, Scenery

JOBS = "/v1/fine_tuning/jobs"


class Recorder:
    """A waker that notes each call, and how many committed jobs a worker would then find."""

    def __init__(self, scenery: Scenery) -> None:
        self._scenery = scenery
        self.calls: list[tuple[str, int]] = []

    def wake(self, queue: str) -> None:
        with transaction(self._scenery.sessions) as session:
            self.calls.append((queue, session.query(Job).count()))


@pytest.fixture
def wakes(scenery: Scenery, app: FastAPI) -> Iterator[Recorder]:
    recorder, before = Recorder(scenery), app.state.serving
    app.state.serving = dataclasses.replace(before, waker=recorder)
    yield recorder
    app.state.serving = before


def test_an_upload_wakes_a_control_worker_that_then_finds_the_preparation(scenery: Scenery, wakes: Recorder) -> None:
    scenery.upload()

    assert wakes.calls == [("control", 1)]


def test_an_upload_in_parts_wakes_a_control_worker_once_when_it_is_a_file(scenery: Scenery, wakes: Recorder) -> None:
    new = {"bytes": len(ROWS), "filename": "train.jsonl", "purpose": "fine-tune"}
    path = f"/v1/uploads/{scenery.client.post('/v1/uploads', json=new).json()['id']}"
    part = scenery.client.post(f"{path}/parts", files={"data": ROWS}).json()["id"]
    assert wakes.calls == []

    for _ in range(2):
        assert scenery.client.post(f"{path}/complete", json={"part_ids": [part]}).status_code == 200

    assert wakes.calls == [("control", 1)]


def test_a_job_that_waits_for_its_file_wakes_no_training_worker(scenery: Scenery, wakes: Recorder) -> None:
    file = scenery.upload()["id"]
    wakes.calls.clear()

    scenery.create_job(training_file=file)

    assert wakes.calls == [("control", 2)]


def test_a_job_that_is_queued_at_once_wakes_a_training_worker(scenery: Scenery, wakes: Recorder) -> None:
    file = scenery.upload()["id"]
    scenery.prepare()
    wakes.calls.clear()

    scenery.create_job(training_file=file)

    assert ("training", 2) in wakes.calls


def test_a_refused_request_and_a_repeated_one_wake_nobody(scenery: Scenery, wakes: Recorder) -> None:
    file = scenery.upload()["id"]
    body = {"model": STARTER, "training_file": file}
    scenery.client.post(JOBS, json=body, headers={"idempotency-key": "k"})
    wakes.calls.clear()

    scenery.client.post(JOBS, json=body, headers={"idempotency-key": "k"})
    scenery.client.post(JOBS, json=body | {"model": "nothing"})
    scenery.client.get(JOBS)

    assert wakes.calls == []


def test_more_requests_at_once_than_connections_all_get_their_answer(over_http: Scenery) -> None:
    job = over_http.create_job()
    with concurrent.futures.ThreadPoolExecutor(60) as threads:
        answers = list(threads.map(lambda _: over_http.client.get(f"{JOBS}/{job['id']}").status_code, range(300)))

    assert set(answers) == {200}
